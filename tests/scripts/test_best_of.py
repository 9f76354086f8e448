"""Rows of evaluate.py with the best of several replies, on the tiny models."""

import json
import re
import sys

import pytest
import torch
from conftest import read_json, read_lines, write_rows
from script_runs import run_here
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import evaluate
from response_generator.cli import command_line

PROMPTS, REPLIES, SAMPLES = 6, 2, 3
MODELS = ["baseline", "adapter"]
ROWS = [f"{model} best of {SAMPLES}" for model in MODELS]
PER_SECOND = "per_second"


def evaluated_here(values: dict, folder, *options: str) -> int:
    return run_here(evaluate.main, values | {"output_dir": str(folder)}, folder.parent, *options)


@pytest.fixture(scope="module")
def values(tiny, tmp_path_factory) -> dict:
    return tiny.evaluate(
        tmp_path_factory.mktemp("values"),
        backend="transformers",
        samples_per_prompt=REPLIES,
        heldout_pairs={"dataset": {"path": str(tiny.folder / "pairs.jsonl"), "limit": 4}, "beta": 0.1},
        bootstrap_resamples=100,
        best_of={"samples": SAMPLES, "scoring": {"emotion_model": str(tiny.folder / "choosing"), "batch_size": 5}},
    )


@pytest.fixture(scope="module")
def run(values, tmp_path_factory):
    """A finished run with both rows."""
    folder = tmp_path_factory.mktemp("best_of") / "run"
    assert evaluated_here(values, folder) == 0
    return folder


def rows_by_key(file) -> dict[tuple, dict]:
    return {(row["model"], row["index"], row["sample"]): row for row in read_lines(file)}


def find_probability(classifier: str, text: str, label: str) -> float:
    """Of one text alone, with transformers."""
    model, tokenizer = (
        each.from_pretrained(classifier) for each in (AutoModelForSequenceClassification, AutoTokenizer)
    )
    with torch.no_grad():
        probabilities = model(**tokenizer(text, return_tensors="pt")).logits[0].softmax(-1)
    return probabilities[model.config.label2id[label]].item()


def test_each_reply_of_the_row_is_the_best_of_its_own_candidates(run, tiny):
    candidates, chosen = rows_by_key(run / "candidates.jsonl"), rows_by_key(run / "predictions.jsonl")
    assert len(candidates) == 2 * PROMPTS * REPLIES * SAMPLES
    assert list(dict.fromkeys(model for model, _, _ in chosen)) == [*MODELS, *ROWS]
    positions = set()
    for name in ROWS:
        for index in range(PROMPTS):
            for sample in range(REPLIES):
                group = [candidates[name, index, sample * SAMPLES + number] for number in range(SAMPLES)]
                target = group[0]["target_emotion"]
                scores = [
                    round(find_probability(str(tiny.folder / "choosing"), row["response"], target), 6) for row in group
                ]
                best = group[scores.index(max(scores))]
                positions.add(scores.index(max(scores)))
                reply = chosen[name, index, sample]
                assert {key: reply[key] for key in best if key != "sample"} == {
                    key: value for key, value in best.items() if key != "sample"
                }
    assert len(positions) > 1  # not always the first


def test_the_candidates_are_other_draws_than_the_replies_and_the_replies_are_as_without_them(run, values, tmp_path):
    assert evaluated_here({**values, "best_of": None}, tmp_path / "run") == 0
    without, among = (rows_by_key(each / "predictions.jsonl") for each in (tmp_path / "run", run))
    assert without == {key: row for key, row in among.items() if key[0] in MODELS}
    candidates = rows_by_key(run / "candidates.jsonl")
    places = [(index, sample) for index in range(PROMPTS) for sample in range(REPLIES)]
    same = [candidates[ROWS[1], *place]["response"] == among["adapter", *place]["response"] for place in places]
    assert not all(same)
    assert not (tmp_path / "run" / "candidates.jsonl").exists()


def test_the_row_costs_what_its_candidates_cost(run, capsys):
    metrics = read_json(run / "metrics.json")
    candidates = read_lines(run / "candidates.jsonl")
    spent = read_lines(run / "throughput.jsonl")
    for name in ROWS:
        tokens = sum(row["new_tokens"] for row in candidates if row["model"] == name)
        seconds = sum(entry["seconds"] for entry in spent if entry["model"] == name)
        assert metrics[f"{name}/generated_tokens_per_reply"] == pytest.approx(tokens / (PROMPTS * REPLIES))
        assert metrics[f"{name}/replies_per_second"] == pytest.approx(PROMPTS * REPLIES / seconds)
        assert metrics[f"{name}/new_tokens_per_second"] == pytest.approx(tokens / seconds)
        assert metrics[f"{name}/generated_tokens_per_reply"] > 2 * metrics[f"{name}/mean_new_tokens"]
    assert metrics["adapter/generated_tokens_per_reply"] == pytest.approx(metrics["adapter/mean_new_tokens"])


def test_the_row_is_compared_as_a_model_but_has_no_perplexity(run):
    metrics = read_json(run / "metrics.json")
    assert "difference of adapter/gold_perplexity" in metrics
    for name in ROWS:
        assert {f"difference of {name}/emotion_accuracy", f"difference of {name} from gold/distinct_1"} <= set(metrics)
        assert not [key for key in metrics if name in key and "gold_perplexity" in key]
    page = (run / "report.html").read_text(encoding="utf-8")
    assert page.count(ROWS[0]) > 10
    assert "the baseline, the adapter prefers the chosen reply in" in (run / "summary.md").read_text(encoding="utf-8")


def without_speed(run) -> dict:
    return {name: value for name, value in read_json(run / "metrics.json").items() if PER_SECOND not in name}


def resume(run, part, values, predictions: list[dict], candidates: list[dict]) -> None:
    """What `part` holds when a run with these rows goes on is what `run` holds."""
    part.mkdir()
    for name in ("args.json", "environment.json", "throughput.jsonl", "pair_logps.jsonl"):
        (part / name).write_bytes((run / name).read_bytes())
    (part / "args.json").write_text(json.dumps(read_json(run / "args.json") | {"output_dir": str(part)}))
    write_rows(part / "predictions.jsonl", predictions)
    write_rows(part / "candidates.jsonl", candidates)
    assert evaluated_here(values, part) == 0
    for name in ("predictions.jsonl", "candidates.jsonl"):
        assert sorted(map(str, read_lines(part / name))) == sorted(map(str, read_lines(run / name)))
    assert (part / "predictions.jsonl").read_bytes() == (run / "predictions.jsonl").read_bytes()


def test_a_run_that_was_killed_goes_on(run, values, tmp_path):
    rows, candidates = (read_lines(run / f"{name}.jsonl") for name in ("predictions", "candidates"))
    plain = [row for row in rows if row["model"] in MODELS]
    resume(run, tmp_path / "generating", values, plain[:14], candidates[:20])
    resume(run, tmp_path / "choosing", values, rows[:-3], candidates)


def test_what_is_chosen_is_not_classified_again(run, values, tmp_path, monkeypatch):
    """Killed before metrics.json was written: neither the model nor the classifiers that choose are loaded."""
    from response_generator.evaluation import best_of
    from response_generator.modeling import inference

    monkeypatch.setattr(best_of, "ReplyScorer", None)
    monkeypatch.setattr(inference, "load_model", None)
    resume(
        run,
        tmp_path / "reporting",
        values,
        read_lines(run / "predictions.jsonl"),
        read_lines(run / "candidates.jsonl"),
    )


def test_the_rows_are_scored_again_without_the_classifiers_that_chose_them(run, values, tmp_path, capsys):
    gone = {**values, "best_of": {"samples": SAMPLES, "scoring": {"emotion_model": "gone/elsewhere"}}}
    assert evaluated_here(gone, tmp_path / "run", "--from_predictions", str(run)) == 0
    assert (tmp_path / "run" / "predictions.jsonl").read_bytes() == (run / "predictions.jsonl").read_bytes()
    assert without_speed(tmp_path / "run")[f"{ROWS[0]}/generated_tokens_per_reply"] > 0
    scoring = values["scoring"] | {"emotion_model": values["best_of"]["scoring"]["emotion_model"]}
    evaluated = {**values, "best_of": None, "scoring": scoring}
    capsys.readouterr()
    assert evaluated_here(evaluated, tmp_path / "evaluated", "--from_predictions", str(run)) == 2
    said = capsys.readouterr().err
    assert (
        f"{run}: best_of.scoring.emotion_model" in said and "it would evaluate the replies that it has chosen" in said
    )
    # The same of what scored the replies in between, whatever its args say of best_of.
    assert evaluated_here(evaluated, tmp_path / "evaluated", "--from_predictions", str(tmp_path / "run")) == 2
    assert not (tmp_path / "evaluated").exists()


def test_compared_runs_keep_the_best_replies_of_their_adapters(run, values, tmp_path, monkeypatch, capsys):
    assert evaluated_here({**values, "best_of": None, "seed": 7}, tmp_path / "other") == 0
    folders = [str(tmp_path / "other"), f"DPO={run}"]
    monkeypatch.setattr(sys, "argv", ["evaluate.py", "--compare", *folders, "--output_dir", str(tmp_path / "compared")])
    assert command_line.run_main(evaluate.main) == 0
    compared, own = read_json(tmp_path / "compared" / "metrics.json"), read_json(run / "metrics.json")
    best = f"DPO best of {SAMPLES}"
    assert compared["DPO/emotion_accuracy"] == own["adapter/emotion_accuracy"]
    assert compared[f"{best}/emotion_accuracy"] == own[f"{ROWS[1]}/emotion_accuracy"]
    assert f"difference of {best}/emotion_accuracy" in compared and f"{best}/gold_perplexity" not in compared
    assert not [name for name in compared if name.startswith(("other best", "baseline"))]


def test_a_dry_run_counts_the_candidates_and_names_the_classifier(values, tmp_path, capsys):
    of_baseline = {**values, "best_of": values["best_of"] | {"models": ["baseline"]}}
    assert evaluated_here(of_baseline, tmp_path / "run", "--dry_run") == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert f"{2 * PROMPTS * REPLIES} replies and {PROMPTS * REPLIES * SAMPLES} candidates for {ROWS[0]}, of up" in shown
    assert f"best_of.scoring.emotion_model: {values['best_of']['scoring']['emotion_model']}" in shown


@pytest.mark.parametrize(
    ("scoring", "words"),
    [
        ({"emotion_model": "gibberish"}, "best_of.scoring.emotion_model: .*gibberish: its labels are clean, noise"),
        ({"emotion_model": "nowhere"}, "best_of.scoring.emotion_model: .*nowhere: no such file or folder"),
    ],
)
def test_classifiers_that_cannot_choose_are_refused_before_anything_is_loaded(
    values, tiny, tmp_path, capsys, scoring, words
):
    scoring = {key: str(tiny.folder / name) for key, name in scoring.items()}
    evaluating = {"emotion_model": values["scoring"]["emotion_model"]}
    changed = {**values, "best_of": {"scoring": scoring}, "scoring": evaluating}
    assert evaluated_here(changed, tmp_path / "run") == 2
    assert re.search(words, capsys.readouterr().err)
    assert not (tmp_path / "run").exists()
