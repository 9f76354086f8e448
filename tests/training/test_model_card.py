"""The code of a model card runs, and a saved adapter names its base model so that PEFT finds it."""

import json
import os
import re
import shutil
from pathlib import Path

import peft
import pytest
from conftest import published_dpo, read_json
from markdown_it import MarkdownIt
from script_runs import run_here
from tiny_models import EMOTION_LABELS

import fine_tune_dpo
from response_generator import sft
from response_generator.config.sources import find_hub_revision
from response_generator.config.training_schema import DPOArguments, SFTArguments
from response_generator.config.validation import validate_arguments
from response_generator.data.chat_template import ChatFormatter
from response_generator.data.prompt_tokens import tokenize_prompt
from response_generator.modeling import loading
from response_generator.modeling.adapter_file import AdapterFile
from response_generator.modeling.tokenizer import load_tokenizer
from response_generator.training.monitoring import model_card
from response_generator.training.training_method import DPO

SECTIONS = ["Intended use", "Use", "Result", "Limits", "Data and model", "License", "DPO"]


def run_code(folder: Path, capsys, monkeypatch) -> str:
    """What the code of the card in `folder/adapter` prints."""
    monkeypatch.chdir(folder)
    card = (folder / "adapter" / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    capsys.readouterr()
    exec(code, {})
    return capsys.readouterr().out


def test_the_code_of_the_card_writes_a_reply(tiny, tmp_path, capsys, monkeypatch):
    run = tmp_path / "run"
    values = tiny.dpo(run)
    values["dpo"] |= {"max_steps": 1}
    values["chat_template"]["system_prompt"] = "You're a bot ."
    assert run_here(fine_tune_dpo.main, values, tmp_path) == 0
    os.symlink(tiny.base, run / "base")  # what the card calls the folder of the base model
    assert run_code(run, capsys, monkeypatch).strip()
    card = (run / "adapter" / "README.md").read_text(encoding="utf-8")
    assert "{'role': 'system', 'content': \"You're a bot .\"}" in card
    assert str(tmp_path) not in card and str(tiny.folder) not in card
    # PEFT alone finds the base of a local run, from any folder.
    monkeypatch.chdir("/")
    model = peft.AutoPeftModelForCausalLM.from_pretrained(run / "adapter")
    assert model.get_base_model().config.hidden_size == 64


def test_the_code_resizes_the_base_for_an_adapter_with_more_tokens(tiny, tmp_path, capsys, monkeypatch):
    values = tiny.sft(tmp_path / "run")
    values["lora"] |= {"modules_to_save": ["embed_tokens", "lm_head"]}
    values["chat_template"]["special_tokens"] = {"additional_special_tokens": ["<mood>", "</mood>"]}
    values["sft"] |= {"max_steps": 1}
    assert run_here(sft.main, values, tmp_path) == 0
    os.symlink(tiny.base, tmp_path / "run" / "base")
    assert run_code(tmp_path / "run", capsys, monkeypatch).strip()
    assert "resize_token_embeddings(602," in (tmp_path / "run" / "adapter" / "README.md").read_text(encoding="utf-8")


def test_the_code_continues_the_prompt_from_the_ids_of_training(tiny, published, tmp_path, monkeypatch):
    values = published_dpo(tiny, published, tmp_path / "run", "adapter_two_tables")
    arguments = validate_arguments(DPOArguments, values, "args.json")
    source = AdapterFile.read(published / "adapter_two_tables")
    formatter = ChatFormatter.of(load_tokenizer(arguments, source), arguments.chat_template, EMOTION_LABELS)
    shutil.copytree(source.folder, tmp_path / "adapter")
    formatter.tokenizer.save_pretrained(tmp_path / "adapter")
    os.symlink(published / "base", tmp_path / "base")
    code = model_card.write_usage(tmp_path / "adapter", arguments.model_dump())
    monkeypatch.chdir(tmp_path)
    variables = {}
    exec(code, variables)
    message, target = model_card.build_sample(list(EMOTION_LABELS.names))
    prompt = formatter.prompt([message], target)
    assert prompt.endswith("[/EMOTION] ")
    assert variables["output"][0, : len(variables["prompt_ids"])].tolist() == tokenize_prompt(prompt, formatter)


@pytest.mark.parametrize(
    ("labels", "content", "keyword"),
    [
        (["polite", "rude"], {"emotion": "polite", "dialog": "I lost my keys again ."}, "target_emotion='rude', "),
        ([], "I lost my keys again .", ""),
    ],
)
def test_the_sample_message_has_a_label_of_the_run(labels, content, keyword, tiny, tmp_path):
    arguments = tiny.dpo(tmp_path) | {"labels": labels, "push_to_hub": None}
    arguments["chat_template"] |= {"system_prompt": None}
    code = model_card.write_usage(tiny.folder / "adapter", arguments)
    assert f"messages = {[{'role': 'user', 'content': content}]!r}" in code
    assert f"    messages, {keyword}add_generation_prompt=True, tokenize=False" in code


def test_a_card_holds_names_as_text_and_no_folder(tiny, tmp_path):
    hostile = "a|b `c` <script>x</script> [y](javascript:z)\n```\n# heading"
    shutil.copytree(tiny.folder / "adapter", tmp_path / "adapter")
    (tmp_path / "curves.png").write_bytes(b"")
    values = tiny.dpo(tmp_path / "run")
    values["dpo"] |= {"optim_args": "cache=/home/me/private/x"}
    values["from_pretrained"] |= {"cache_dir": "/home/me/private/cache"}
    values["dataset"]["path"] = f"/home/me/{hostile}"
    arguments = values | {"reference_adapter": f"/home/me/{hostile}", "push_to_hub": None}
    arguments["labels"] = ["polite", hostile]
    arguments["chat_template"] |= {"system_prompt": hostile}
    for key in ("dataset", "eval_dataset"):
        arguments[key] |= {"split": "train"}
    model_card.write_model_card(DPO, tmp_path / "adapter", arguments, {hostile: hostile}, 3, tmp_path / "curves.png")
    card = (tmp_path / "adapter" / "README.md").read_text(encoding="utf-8")
    assert "/home/me" not in card and str(tiny.folder) not in card
    rendered = MarkdownIt("commonmark", {"html": True}).enable("table").render(card.partition("\n---\n")[2])
    assert re.findall("<h[12]>(.*)</h", rendered)[1:] == SECTIONS
    assert "<script" not in rendered and "javascript:" not in " ".join(re.findall("<[^>]*>", rendered))
    assert rendered.count("<pre>") == 1  # the code


COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("owner/base", ("owner/base", None)),
        ("owner/base@v1", ("owner/base", "v1")),
        (f"/cache/hub/models--owner--a-base/snapshots/{COMMIT}", ("owner/a-base", COMMIT)),
        (f"/cache/hub/models--gpt2/snapshots/{COMMIT}/", ("gpt2", COMMIT)),
        ("/models/snapshots/base", ("/models/snapshots/base", None)),
    ],
)
def test_a_base_is_named_as_others_can_find_it(name, expected):
    assert find_hub_revision(name) == expected


def test_an_adapter_for_the_hub_names_no_folder_of_this_machine(tiny, tmp_path):
    for changes, name in (({}, tiny.base), ({"push_to_hub": {"repo_id": "me/bot"}}, "base")):
        args = validate_arguments(DPOArguments, tiny.dpo(tmp_path / "run", **changes), "args.json")
        policy = loading.load_policy(args, loading.resolve_initial_adapter(args))
        assert policy.peft_config["default"].base_model_name_or_path == name


def test_the_code_names_hub_ids_with_their_revision(tiny, tmp_path):
    values = tiny.sft(tmp_path / "run", base_model="owner/base@v1", push_to_hub={"repo_id": "me/bot"})
    arguments = validate_arguments(SFTArguments, values, "args.json").model_dump(mode="json")
    code = model_card.write_usage(tiny.folder / "adapter", arguments)
    assert "adapter = 'me/bot'  # this repository\nbase = 'owner/base'\n" in code
    assert """from_pretrained(base, dtype="auto", revision='v1')""" in code
    compile(code, "card", "exec")


def test_a_new_lora_and_a_loaded_adapter_name_the_base_alike(tiny, tmp_path):
    values = tiny.sft(tmp_path / "run")
    values["sft"] |= {"max_steps": 1}
    assert run_here(sft.main, json.loads(json.dumps(values)), tmp_path) == 0
    config = read_json(tmp_path / "run" / "adapter" / "adapter_config.json")
    assert (config["base_model_name_or_path"], config["revision"]) == (tiny.base, None)
    saved = read_json(tmp_path / "run" / "checkpoint-1" / "adapter_config.json")
    assert saved["base_model_name_or_path"] == tiny.base
