"""What the section best_of may hold, in an evaluation and in a chat."""

import pytest

from response_generator.config.chat_schema import ChatArguments
from response_generator.config.schema import EvaluateArguments
from response_generator.config.source_list import list_sources
from response_generator.config.validation import validate_arguments
from response_generator.errors import InputError

EVALUATING = {"emotion_model": "owner/evaluates", "gibberish_model": "owner/tells_noise"}
CHOOSING = {"emotion_model": "owner/chooses"}
GENERATION = {"max_new_tokens": 8, "do_sample": True}
COMMON = {
    "seed": 42,
    "backend": "transformers",
    "base_model": "owner/base",
    "from_pretrained": {},
    "chat_template": {},
    "generation": GENERATION,
    "scoring": EVALUATING,
}
PROGRAMS = {
    "evaluation": (
        EvaluateArguments,
        COMMON
        | {
            "output_dir": "run",
            "adapter": "owner/adapter",
            "dataset": {"path": "owner/data"},
            "wandb": {"mode": "disabled"},
            "batch_size": 4,
        },
    ),
    "chat": (ChatArguments, COMMON | {"adapters": {"one": "owner/adapter"}}),
}


def validate(program: str, best_of: dict, **changes):
    model, values = PROGRAMS[program]
    return validate_arguments(model, values | {"best_of": best_of} | changes, "args.json")


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize(
    "best_of",
    [
        {"scoring": CHOOSING},
        {"samples": 2, "choose_by": "target_probability", "scoring": CHOOSING, "reward": None},
        {"choose_by": "reward", "scoring": CHOOSING | {"gibberish_model": "owner/other_noise"}},
        {"choose_by": "reward", "reward": {"emotion_weight": 0, "gibberish_weight": 0}},
    ],
)
def test_what_is_allowed(program, best_of):
    args = validate(program, best_of)
    assert args.best_of.samples == best_of.get("samples", 6)
    keys = [source.key for source in list_sources(args)]
    assert [key for key in keys if key.startswith("best_of.scoring.")] == [
        f"best_of.scoring.{key}" for key in best_of.get("scoring", {})
    ]


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize(
    ("best_of", "changes", "words"),
    [
        ({}, {}, 'best_of.scoring.emotion_model: missing; best_of.choose_by is "target_probability"; name a classif'),
        ({"scoring": CHOOSING, "samples": 1}, {}, "best_of.samples: got 1 .*greater than or equal to 2"),
        (
            {"scoring": CHOOSING},
            {"generation": {"max_new_tokens": 8}},
            "best_of: without sampling all replies to a prompt are the same; set generation.do_sample: true",
        ),
        (
            {"scoring": {"emotion_model": "owner/evaluates"}},
            {},
            "best_of.scoring.emotion_model: got 'owner/evaluates', which is also scoring.emotion_model",
        ),
        ({"scoring": {"emotion_model": "owner/evaluates@v2"}}, {}, "which is also scoring.emotion_model"),
        (
            {"choose_by": "reward", "scoring": CHOOSING | {"gibberish_model": "owner/tells_noise"}},
            {},
            "best_of.scoring.gibberish_model: got 'owner/tells_noise', which is also scoring.gibberish_model",
        ),
        (
            {"choose_by": "reward", "scoring": CHOOSING},
            {},
            "best_of.scoring.gibberish_model: missing; best_of.reward.gibberish_weight is 0.35",
        ),
        ({"scoring": CHOOSING, "reward": {}}, {}, 'best_of.reward: only for choose_by "reward"'),
        (
            {"scoring": CHOOSING | {"gibberish_model": "owner/other_noise"}},
            {},
            'best_of.scoring.gibberish_model: only for choose_by "reward"',
        ),
        (
            {"scoring": {"gibberish_model": "owner/other_noise"}},
            {"labels": [], "scoring": None},
            'best_of.choose_by: "target_probability" needs labels; got labels: \\[\\]; choose by "reward"',
        ),
        (
            {"scoring": CHOOSING | {"emotion_labels": {"joy": "delight"}}},
            {},
            "best_of.scoring.emotion_labels.joy: got 'delight'; allowed: those of labels, neutral",
        ),
        (
            {
                "choose_by": "reward",
                "reward": {"emotion_weight": 0, "gibberish_weight": 0, "min_characters": 9, "max_characters": 8},
            },
            {},
            r"best_of.reward.min_characters: got 9; allowed: up to max_characters \(8\)",
        ),
        (
            {"choose_by": "reward", "reward": {"emotion_weight": 0, "gibberish_weight": 0, "fit_weight": 2.0}},
            {},
            "best_of.reward.fit_weight: got 2.0; the best reply is chosen without its fit; remove the key",
        ),
        ({"scoring": CHOOSING | {"fit_model": "owner/base"}}, {}, "best_of.scoring.fit_model: unknown key"),
    ],
)
def test_what_is_refused(program, best_of, changes, words):
    with pytest.raises(InputError, match=words):
        validate(program, best_of, **changes)


def test_the_second_classifier_of_the_evaluation_has_not_chosen_either():
    evaluating = {"emotion_model": "owner/evaluates", "second_emotion_model": CHOOSING["emotion_model"]}
    with pytest.raises(InputError, match="which is also scoring.second_emotion_model"):
        validate("evaluation", {"scoring": CHOOSING}, scoring=evaluating)


def test_a_classifier_is_the_same_under_another_spelling_of_its_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "classifier").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "link").symlink_to("classifier")
    for written in ("classifier", "./other/../classifier", str(tmp_path / "classifier"), "./link", "$HERE/classifier"):
        monkeypatch.setenv("HERE", str(tmp_path))
        with pytest.raises(InputError, match="which is also scoring.emotion_model"):
            validate("chat", {"scoring": {"emotion_model": written}}, scoring={"emotion_model": "./classifier"})
    validate("chat", {"scoring": {"emotion_model": "./other"}}, scoring={"emotion_model": "./classifier"})


@pytest.mark.parametrize(
    ("models", "words"),
    [
        (["baseline"], 'best_of.models: got "baseline", but there is no baseline_adapter; name one'),
        ([], "best_of.models: got .*needed: one or more different models"),
        (["adapter", "adapter"], "best_of.models: got .*needed: one or more different models"),
        (["gold"], "best_of.models.0: got 'gold' .*allowed: 'baseline' or 'adapter'"),
    ],
)
def test_models_that_the_evaluation_does_not_have_are_refused(models, words):
    with pytest.raises(InputError, match=words):
        validate("evaluation", {"scoring": CHOOSING, "models": models})


def test_a_chat_chooses_for_every_adapter():
    with pytest.raises(InputError, match="best_of.models: unknown key"):
        validate("chat", {"scoring": CHOOSING, "models": ["adapter"]})
