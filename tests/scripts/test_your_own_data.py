"""docs/your-own-data.md, followed from top to bottom: its rows, its Python blocks and its commands, on tiny models.

Two labels take the place of the seven emotions, as the page says under "Own labels".
"""

import io
import re
import sys

import pytest
from commands import NOT_EXECUTED, run_program, split_command, to_options
from conftest import ROOT, read_args, read_json, read_lines
from documents import TEXTS
from tiny_assets import link_repository, write_tiny_assets

from response_generator.config.schema import LabelArguments

PAGE = TEXTS[ROOT / "docs" / "your-own-data.md"]
# Tiny models have two layers, write nothing that passes a filter, and need large updates to survive a 16-bit merge.
OVERRIDES = {
    "emotion_classifier_arg.json": {"frozen_layers": 1},
    "sft_arg.json": {"lora.layers_to_transform": None, "sft.learning_rate": 0.01, "sft.num_train_epochs": 4},
    "preference_arg.json": {"filters": {}, "generation.max_new_tokens": 8, "max_attempts": 1},
    "evaluate_arg.json": {"generation.max_new_tokens": 8, "bootstrap_resamples": 1000},
    "chat_arg.json": {"generation.max_new_tokens": 8},
}
DATA = ("dataset", "eval_dataset", "datasets", "eval_datasets", "calibration")
LABELS = ["polite", "rude"]
OWN_LABELS = dict.fromkeys(("neutral", "fear", "sadness", "surprise"), LABELS[0])
OWN_LABELS |= dict.fromkeys(("anger", "disgust", "happiness"), LABELS[1])


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A copy of the repository's folders that the page names, with tiny models in `assets/`."""
    monkeypatch.chdir(tmp_path)
    link_repository(tmp_path)
    write_tiny_assets(tmp_path / "assets", LABELS)
    (tmp_path / "my_data").mkdir()
    return tmp_path


def list_steps() -> list[tuple[str, str]]:
    """`(kind, text)` of everything on the page that is carried out: the name and rows of a file, Python, a command."""
    steps = []
    file = None
    block = re.compile(r"into `(my_data/\w+\.jsonl)`:$|^```(jsonl|python|sh)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    for match in block.finditer(PAGE):
        name, language, text = match.groups()
        if name:
            file = name
        elif language == "sh":
            steps += [("sh", line) for line in text.splitlines()]
        else:
            steps.append((file, text) if language == "jsonl" else (language, text))
    return steps


def name_own_labels(text: str) -> str:
    return re.sub("|".join(OWN_LABELS), lambda match: OWN_LABELS[match[0]], text)


def run_command(command: str, monkeypatch) -> None:
    program, options = split_command(command)
    if "--json_file" in options or "--describe" in options:
        options += to_options({"labels": LABELS})
    for name, changes in OVERRIDES.items():
        if any(option.endswith(f"/{name}") for option in options):
            options += to_options(changes)
    run_program(program, options, monkeypatch)


def test_the_page_leads_to_an_aligned_adapter(folder, monkeypatch, capfd):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"Hello .\n/compare\n")))  # for the chat
    variables, counts = {}, {"sh": 0, "python": 0, "rows": 0}
    for kind, text in list_steps():
        if kind == "sh":
            if text not in NOT_EXECUTED:
                run_command(text, monkeypatch)
        elif kind == "python":
            exec(compile(name_own_labels(text), "docs/your-own-data.md", "exec"), variables)
        else:
            # One label of another name, which the page renames.
            (folder / kind).write_text(name_own_labels(text.replace('"happiness"', '"joy"', 1)), encoding="utf-8")
        counts[kind if kind in counts else "rows"] += 1
    assert counts == {"sh": 14, "python": 3, "rows": 2}

    runs = folder / "runs" / "own_data"
    splits = [read_lines(folder / "my_data" / f"{name}.jsonl") for name in ("train", "validation", "test")]
    assert [len(rows) for rows in splits] == [3, 1, 1]
    assert read_lines(runs / "preferences" / "preferences.jsonl")
    assert read_json(runs / "dpo" / "args.json")["adapter"] == str(runs / "sft" / "adapter")
    metrics = read_json(runs / "evaluate" / "metrics.json")
    assert metrics["prompts"] == 1
    assert {"adapter/emotion_accuracy", "baseline/emotion_accuracy", "difference/emotion_accuracy"} <= metrics.keys()
    assert not any("neutral" in name for name in metrics)  # no label is neutral
    chosen = read_lines(runs / "preferences" / "preferences.jsonl")[0]["chosen"][0]["content"]["emotion"]
    assert chosen in LABELS
    names = read_json(runs / "emotion_classifier" / "classifier" / "config.json")["id2label"]
    assert list(names.values()) == LABELS
    assert (runs / "evaluate" / "report.html").exists()
    assert (runs / "merged" / "model.safetensors").exists()
    printed = capfd.readouterr().out
    assert "warning: scoring.emotion_model" not in printed  # the pairs' classifier does not evaluate
    assert len(re.findall("^(SFT|DPO)\t", printed, re.MULTILINE)) == 3  # replies of the chat
    assert isinstance(variables["reply"], str)


def test_the_recipe_is_that_of_the_results():
    """The args files differ from those that were measured on DailyDialog in data and names alone, and name the labels,
    which are the default."""
    labels = ("labels", "neutral_label")
    defaults = {key: LabelArguments.model_fields[key].default for key in labels}
    for file in sorted((ROOT / "args" / "own_data").glob("*_arg.json")):
        if file.name == "chat_arg.json":  # that of the demo
            continue
        measured, own = (read_args(f"{folder}/{file.name}") for folder in ("daily_dialog", "own_data"))
        for values in (measured, own):
            for key in ("output_dir", "adapter", "baseline_adapter", "wandb", *DATA):
                values.pop(key, None)
            for key in ("emotion_model", "fit_model"):  # fit needs eight dialogues
                values.get("scoring", {}).pop(key, None)
            values.get("reward", {}).pop("naming_penalty", None)  # other labels need words of their own
            values.get("dpo", {}).pop("shared_prefix", None)  # both layouts compute the same
        assert {key: own.pop(key) for key in labels} == defaults
        assert own == measured, file.name
