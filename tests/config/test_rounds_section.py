"""An args file of rounds: the args files in it, what contradicts itself, and the args of each program."""

import json

import pytest
from conftest import ROOT

from response_generator.config.args_file import ArgsFile
from response_generator.config.rounds.rounds_schema import RoundsArguments
from response_generator.config.rounds.stages import Stages
from response_generator.config.validation import validate_arguments
from response_generator.errors import InputError


@pytest.fixture(autouse=True)
def in_repository(monkeypatch):
    monkeypatch.chdir(ROOT)


def read_demo(**changes) -> dict:
    return ArgsFile.read(ROOT / "args" / "demo" / "rounds_arg.json").values | changes


def list_errors(**changes) -> list[str]:
    values = read_demo()
    for path, value in changes.items():
        *sections, key = path.split("__")
        place = values
        for section in sections:
            place = place.setdefault(section, {})
        place[key] = value
    try:
        validate_arguments(RoundsArguments, values, "mine.json")
    except InputError as error:
        return error.messages
    return []


def build_stages(**changes) -> Stages:
    return Stages.of(validate_arguments(RoundsArguments, read_demo(**changes), "mine.json"))


def test_each_program_has_the_args_of_the_file_that_its_section_extends():
    stages, values = build_stages(), ArgsFile.read(ROOT / "args" / "demo" / "dpo_arg.json").values
    assert stages.dpo.dpo == values["dpo"]
    assert stages.evaluation.dataset.path.endswith("dialogues_validation.jsonl")  # changed beside it
    assert stages.evaluation.generation["max_new_tokens"] == 150


def test_a_file_changes_the_sections_of_the_file_that_it_extends(tmp_path):
    mine = {"extends": str(ROOT / "args/demo/rounds_arg.json"), "dpo_args": {"dpo": {"beta": 0.3}}}
    (tmp_path / "mine.json").write_text(json.dumps(mine), encoding="utf-8")
    args_file = ArgsFile.read(tmp_path / "mine.json")
    assert args_file.values["dpo_args"]["dpo"]["beta"] == 0.3
    assert args_file.values["dpo_args"]["dpo"]["max_length"] == 512
    origins = {key: args_file.find_origin(f"dpo_args.dpo.{key}").name for key in ("beta", "max_length")}
    assert origins == {"beta": "mine.json", "max_length": "dpo_arg.json"}
    mine["dpo_args"]["extends"] = str(ROOT / "args/daily_dialog/dpo_arg.json")  # and another file of the program
    (tmp_path / "mine.json").write_text(json.dumps(mine), encoding="utf-8")
    values = ArgsFile.read(tmp_path / "mine.json").values
    assert (values["dpo_args"]["dpo"]["beta"], values["dpo_args"]["dpo"]["save_steps"]) == (0.3, 50)


def test_a_section_that_leads_back_to_its_file_or_to_none_is_refused(tmp_path):
    (tmp_path / "mine.json").write_text('{"dpo_args": {"extends": "mine.json"}}', encoding="utf-8")
    with pytest.raises(InputError, match="leads back to the same file"):
        ArgsFile.read(tmp_path / "mine.json")
    (tmp_path / "mine.json").write_text('{"dpo_args": {"extends": "none.json"}}', encoding="utf-8")
    with pytest.raises(InputError, match=r"none.json: no such file"):
        ArgsFile.read(tmp_path / "mine.json")


def test_the_errors_of_all_programs_are_reported_together():
    errors = list_errors(
        rounds=0,
        stop__max_token_rato=1.1,
        preference_args__candidates=1,
        dpo_args__dpo__betta=0.1,
        evaluate_args__generation__do_sample=False,
    )
    for words in (
        "mine.json: rounds: got 0",
        'mine.json: stop.max_token_rato: unknown key; did you mean "max_token_ratio"?',
        "mine.json: preference_args.candidates: got 1",
        'mine.json: dpo_args.dpo.betta: unknown key; did you mean "beta"?',
        "mine.json: evaluate_args.best_of: without sampling all replies to a prompt are the same",
    ):
        assert any(message.startswith(words) for message in errors), (words, errors)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"dpo_args__push_to_hub": {"repo_id": "me/it"}}, "dpo_args.push_to_hub: every round would upload"),
        ({"dpo_args__export": {"path": "x"}}, "dpo_args.export: every round would write the same folder"),
        ({"dpo_args__reference_adapter": "x/y"}, "the key reference says which"),
        ({"dpo_args__lora": {"r": 8}, "dpo_args__adapter": None}, "dpo_args.lora: the rounds go on training"),
        ({"dpo_args__base_model": "owner/other"}, "base_model: got 'assets/base_model' in preference_args, 'owner/"),
        ({"evaluate_args__backend": "transformers"}, "backend: got 'unsloth' in preference_args"),
        ({"evaluate_args__labels": ["neutral", "fun"]}, "labels: got ["),
        (
            {"evaluate_args__scoring__emotion_model": None},
            "evaluate_args.scoring.emotion_model: missing; the best round is the one that follows most targets",
        ),
        ({"evaluate_args__scoring__fit_model": None}, "stop.min_fit_ratio needs it"),
        (
            {"evaluate_args__dataset": {"path": "response_generator/demo/data/dialogues_train.jsonl", "offset": 179}},
            "shares rows with preference_args.dataset, of which the rounds read 0 to 179",
        ),
        ({"seed": 2**32 - 1}, "seed: got 4294967295"),
        ({"dpo_args": "args/demo/dpo_arg.json"}, "dpo_args: got 'args/demo/dpo_arg.json' (string); allowed: object"),
    ],
)
def test_conflicts_of_rounds(changes, words):
    errors = list_errors(**changes)
    assert any(words in message for message in errors), errors


def test_evaluating_on_the_dialogues_after_those_of_the_rounds_is_fine():
    data = {"path": "response_generator/demo/data/dialogues_train.jsonl", "offset": 180}
    assert list_errors(evaluate_args__dataset=data) == []


def test_the_args_of_each_round():
    stages = build_stages(seed=7, output_dir="out")
    preferences = [stages.build_preferences(number) for number in (1, 2)]
    assert [(each.dataset.offset, each.dataset.limit, each.seed) for each in preferences] == [
        (0, 60, 7),
        (60, 60, 8),
    ]
    start = str(ROOT / "response_generator" / "demo" / "sft_adapter")
    first, second = (str(ROOT / "out" / f"round-{number}" / "dpo" / "adapter") for number in (1, 2))
    assert [each.adapter for each in preferences] == [start, first]
    dpo = stages.build_dpo(2)
    assert (dpo.adapter, dpo.reference_adapter, dpo.seed) == (first, None, 8)
    assert dpo.dataset.path == str(ROOT / "out" / "round-2" / "pairs" / "preferences.jsonl")
    evaluation = stages.build_evaluation(2)
    assert (evaluation.adapter, evaluation.baseline_adapter, evaluation.seed) == (second, start, 7)


def test_the_first_adapter_as_reference_of_every_round():
    stages = build_stages(reference="first")
    start = str(ROOT / "response_generator" / "demo" / "sft_adapter")
    assert [stages.build_dpo(number).reference_adapter for number in (1, 2, 3)] == [None, start, start]


def test_the_best_of_several_replies_of_the_first_adapter_is_sampled_once():
    """The demo asks for that of the baseline; where the adapter's is wanted too, every round has it."""
    stages = build_stages()
    assert stages.build_evaluation(1).best_of.models == ["baseline"]
    assert stages.build_evaluation(2).best_of is None
    values = read_demo()
    values["evaluate_args"]["best_of"]["models"] = None
    stages = Stages.of(validate_arguments(RoundsArguments, values, "mine.json"))
    assert stages.build_evaluation(1).best_of.models is None
    assert stages.build_evaluation(2).best_of.models == ["adapter"]


def test_the_recorded_args_are_an_args_file_with_every_key():
    recorded = build_stages().args.model_dump(mode="json")
    assert recorded["dpo_args"]["export"] is None and recorded["evaluate_args"]["bootstrap_resamples"] == 10_000
    again = Stages.of(validate_arguments(RoundsArguments, recorded, "args.json"))
    assert again.args.model_dump(mode="json") == recorded
