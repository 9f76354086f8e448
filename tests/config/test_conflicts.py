"""Args values that contradict each other or are not supported are refused."""

import re

import pytest
from conftest import ROOT, read_args, read_json
from test_validation import errors_of

from response_generator.config.chat_schema import ChatArguments
from response_generator.config.library.training_keys import F_DIVERGENCES, LOSS_TYPES
from response_generator.config.preference_schema import PreferenceDataArguments
from response_generator.config.schema import EvaluateArguments
from response_generator.config.section import Section
from response_generator.config.training_schema import ClassifierArguments, DPOArguments
from response_generator.config.validation import validate_arguments
from response_generator.errors import InputError


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"adapter": None}, "adapter: null needs the section lora"),
        ({"lora": {"r": 8}}, "lora: only for a new adapter"),
        ({"adapter": None, "lora": {"bias": "all"}}, "lora.bias: got 'all'; allowed"),
        ({"adapter": None, "lora": {"init_lora_weights": "pissa"}}, "the reference is not the bare base"),
        ({"adapter": None, "lora": {"rank": 8}}, "lora.rank: unknown key"),
        ({"export": {"path": "x", "dtype": "float32"}}, "export.dtype: got 'float32'"),
        ({"adapter": None, "lora": {"target_modules": ["q_proj", "lm_head"]}}, "would not train it"),
        ({"push_to_hub": {"repo": "me/it"}}, 'did you mean "repo_id"?'),
        ({"dataset": {"path": "x", "name": ""}}, "dataset.name: is empty; write a text, or null"),
        ({"eval_dataset": {"path": "x", "revision": ""}}, "eval_dataset.revision: is empty"),
    ],
)
def test_conflicting_training_values_are_refused(changes, words):
    assert any(words in message for message in errors_of(changes))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"baseline_adapter": None, "heldout_pairs": {"dataset": {"path": "x"}, "beta": 0.1}}, "needs a baseline"),
        ({"generation": {"do_sample": True}}, "generation.max_new_tokens: missing"),
        (
            {"generation": {"max_new_tokens": 9, "do_sample": False}, "samples_per_prompt": 2},
            "are the same; set generation.do_sample",
        ),
        ({"samples_per_prompt": 0}, "samples_per_prompt: got 0"),
        ({"scoring": {"emotion_model": "x", "gibberish_model": "x"}}, "tells clean text from gibberish"),
        ({"generation": {"max_new_tokens": 9, "max_time": 2.0}}, "on the speed of the machine; use max_new_tokens"),
        ({"bootstrap_resamples": 5}, "greater than or equal to 100"),
        ({"heldout_pairs": {"dataset": {"path": "x"}, "beta": 0.0}}, "heldout_pairs.beta: got 0.0"),
        ({"scoring": {"emotion_model": "x", "gibberish_model": "y", "emotion_labels": ["joy"]}}, "labels.0: got 'joy'"),
        ({"scoring": {"emotion_model": "x", "gibberish_model": "y", "emotion_labels": {"a": "joy"}}}, "labels.a: got"),
        ({"labels": ["fun", "joy"], "neutral_label": "x", "scoring": None}, "neutral_label: got 'x'; allowed: one of"),
        ({"scoring": {"emotion_labels": ["fear"]}}, "scoring.emotion_labels: maps the labels of scoring.emotion_model"),
        ({"scoring": {"emotion_model": "x"}, "labels": []}, "scoring.emotion_model: got 'x', but labels is []"),
        (
            {"scoring": {"emotion_model": "x", "second_emotion_model": "x"}},
            "scoring.second_emotion_model: got 'x', which scoring already names",
        ),
        (
            {"scoring": {"emotion_model": "x", "gibberish_model": "y", "second_emotion_model": "y"}},
            "scoring.second_emotion_model: got 'y', which scoring already names",
        ),
        ({"scoring": {"second_emotion_model": "x"}}, "got 'x', but there is no emotion_model; name it as"),
        (
            {"scoring": {"emotion_model": "x", "second_emotion_model": "y", "second_emotion_labels": {"a": "joy"}}},
            "scoring.second_emotion_labels.a: got 'joy'; allowed: those of labels",
        ),
        ({"scoring": {"second_emotion_labels": ["fear"]}}, "labels of scoring.second_emotion_model, which is missing"),
        ({"scoring": {"emotion_words": "x.json"}, "labels": []}, "scoring.emotion_words: got 'x.json', but labels is"),
        ({"scoring": {"fit_model": "x", "fit_dialogues": 0}}, "scoring.fit_dialogues: got 0"),
    ],
)
def test_conflicting_evaluation_values_are_refused(changes, words):
    values = read_json(ROOT / "args" / "evaluate_arg.json") | changes
    with pytest.raises(InputError) as error:
        validate_arguments(EvaluateArguments, values, "args.json")
    (message,) = error.value.messages
    assert words in message


@pytest.mark.parametrize("key", ["second_emotion_model", "emotion_words"])
def test_what_only_an_evaluation_measures_is_no_key_of_other_programs(key):
    scoring = {"emotion_model": "x", "gibberish_model": "y", key: "z"}
    (message,) = find_building_errors(scoring=scoring)
    assert message.startswith(f"args.json: scoring.{key}: unknown key")


def test_no_classifier_is_needed_to_evaluate_and_args_json_can_be_read_again():
    values = read_json(ROOT / "args" / "evaluate_arg.json") | {"labels": ["polite", "rude"], "scoring": None}
    found = validate_arguments(EvaluateArguments, values, "args.json")
    assert (found.scoring.emotion_model, found.scoring.gibberish_model) == (None, None)
    assert validate_arguments(EvaluateArguments, found.model_dump(mode="json"), "args.json") == found


def find_building_errors(**changes) -> list[str]:
    values = read_args("preference_arg.json") | {"filters": None} | changes
    try:
        validate_arguments(PreferenceDataArguments, values, "args.json")
    except InputError as error:
        return error.messages
    return []


def test_building_needs_the_classifiers_that_its_reward_and_filters_use():
    missing = find_building_errors(scoring=None)
    assert [message.partition(";")[0] for message in missing] == [
        "args.json: scoring.emotion_model: missing",
        "args.json: scoring.gibberish_model: missing",
    ]
    only_length = {"emotion_weight": 0.0, "gibberish_weight": 0.0}
    assert find_building_errors(scoring=None, reward=only_length) == []
    (message,) = find_building_errors(
        scoring=None, reward=only_length, filters={"chosen_has_target_emotion": True, "min_characters": 2}
    )
    assert "scoring.emotion_model: missing; filters.chosen_has_target_emotion needs it" in message


def test_what_a_penalty_for_naming_needs():
    assert find_building_errors(reward={"naming_penalty": 2.0, "emotion_words": "words.json"}) == []
    (message,) = find_building_errors(reward={"emotion_words": "words.json"})
    assert "reward.emotion_words: got 'words.json', but naming_penalty is 0" in message
    without = {"labels": [], "scoring": None, "neutral_label": None}
    only_naming = {"emotion_weight": 0.0, "gibberish_weight": 0.0, "naming_penalty": 2.0}
    (message,) = find_building_errors(reward=only_naming, **without)
    assert "reward.naming_penalty: got 2.0; needs labels" in message


def test_a_weight_of_the_fit_and_its_model_need_each_other():
    scoring = {"emotion_model": "x", "gibberish_model": "y"}
    assert find_building_errors(scoring=scoring | {"fit_model": "z"}, reward={"fit_weight": 2.0}) == []
    (message,) = find_building_errors(scoring=scoring, reward={"fit_weight": 2.0})
    assert "scoring.fit_model: missing; reward.fit_weight is 2.0; name a model" in message
    (message,) = find_building_errors(scoring=scoring | {"fit_model": "z"})
    assert "scoring.fit_model: got 'z', but reward.fit_weight is 0; set it, or remove the model" in message
    (message,) = find_building_errors(scoring=scoring | {"fit_model": "z"}, reward={"fit_weight": -1.0})
    assert "reward.fit_weight: got -1.0" in message
    (message,) = errors_of({"scoring": {"fit_model": "z"}})
    assert "scoring.fit_model: unknown key" in message  # training measures no fit


def test_what_a_selection_needs_to_tell_good_replies_from_bad_ones():
    without = {"scoring": None, "reward": {"emotion_weight": 0.0, "gibberish_weight": 0.0}}
    (message,) = find_building_errors(pair_selection="best_random_failing", **without)
    assert 'scoring.emotion_model: missing; pair_selection "best_random_failing" needs it; name a' in message
    (message,) = find_building_errors(pair_selection="diverse", **without)
    assert 'pair_selection: "diverse" needs to know which replies are good; set filters.min_chosen_score' in message
    threshold = {"min_chosen_score": 5.0}
    assert find_building_errors(pair_selection="diverse", **without | {"filters": threshold}) == []
    assert find_building_errors(pair_selection="diverse") == []
    assert find_building_errors(pair_selection="best_random_failing") == []
    (message,) = find_building_errors(pair_selection="random")
    assert "pair_selection: got 'random'" in message and "'best_random_failing' or 'diverse'" in message


def test_filters_of_training_need_a_classifier_only_where_the_section_is_there():
    filters = {"dataset": {"path": "x", "filters": {"chosen_gibberish_labels": ["clean"]}}}
    validate_arguments(DPOArguments, read_json(ROOT / "args" / "dpo_arg.json") | filters, "args.json")
    (message,) = errors_of(filters | {"scoring": {"emotion_model": "x"}})
    assert "scoring.gibberish_model: missing; dataset.filters.chosen_gibberish_labels needs it" in message


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"target_emotion": "joyful"}, "target_emotion: got 'joyful'; allowed: neutral, anger, disgust,"),
        ({"labels": ["polite", "rude"], "user_emotion": "anger"}, "user_emotion: got 'anger'; allowed: polite, rude"),
        ({"labels": [], "target_emotion": "rude"}, "target_emotion: got 'rude'; allowed: null, because labels is []"),
        ({"labels": ["manual", "auto"]}, "labels: in a chat, 'auto' is the label that the classifier finds"),
        ({"labels": ["polite", "rude"], "target_emotion": "rude"}, None),
        ({"labels": []}, None),
    ],
)
def test_labels_of_a_chat_are_those_of_the_run(changes, words):
    values = read_args("chat_arg.json") | {"target_emotion": None, "scoring": None} | changes
    assert_refused(ChatArguments, values, words)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"target_emotions": "balanced"}, 'target_emotions: "balanced" needs labels'),
        ({"filters": {"chosen_has_target_emotion": True}}, "filters.chosen_has_target_emotion: needs labels"),
        ({"filters": {"equal_naming": True}}, "filters.equal_naming: its words are for the emotions"),
    ],
)
def test_pairs_without_labels_have_no_targets(changes, words):
    values = read_args("preference_arg.json") | {"filters": None} | changes
    with pytest.raises(InputError) as error:
        validate_arguments(PreferenceDataArguments, values | {"labels": []}, "args.json")
    assert any(words in message for message in error.value.messages)


def test_without_labels_a_dialogue_cannot_be_asked_for_all_of_them():
    values = read_args("demo/evaluate_arg.json") | {"scoring": None, "best_of": None}
    values["dataset"] = values["dataset"] | {"target_emotions": "all"}
    assert_refused(EvaluateArguments, values, None)
    assert_refused(EvaluateArguments, values | {"labels": []}, 'dataset.target_emotions: "all" needs labels')


def test_a_classifier_needs_labels():
    values = read_args("daily_dialog/emotion_classifier_arg.json")
    assert_refused(ClassifierArguments, values | {"labels": []}, "labels: got []; a classifier needs the labels")


def assert_refused(model: type[Section], values: dict, words: str | None) -> None:
    """Checks that these words are in the only error, or that without words there is none."""
    if words is None:
        validate_arguments(model, values, "args.json")
        return
    with pytest.raises(InputError) as error:
        validate_arguments(model, values, "args.json")
    (message,) = error.value.messages
    assert words in message


def test_logging_per_epoch_needs_saving_per_epoch():
    (message,) = errors_of({"logging_strategy": "epoch"}, "dpo")
    assert 'dpo.save_strategy: must be "epoch"' in message


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"eval_strategy": "steps"}, "the same eval_steps (10) and save_steps (100)"),
        ({"eval_strategy": "steps", "eval_steps": 50}, "the same eval_steps (50) and save_steps (100)"),
        (
            {"eval_strategy": "epoch", "save_strategy": "steps"},
            "the same eval_strategy (epoch) and save_strategy (steps)",
        ),
        ({"eval_strategy": "steps", "eval_steps": 100}, None),
        ({"eval_strategy": "epoch", "save_strategy": "epoch"}, None),
    ],
)
def test_load_best_model_needs_a_checkpoint_at_each_evaluation(changes, words):
    values = read_json(ROOT / "args" / "dpo_arg.json") | {"eval_dataset": {"path": "x.jsonl"}}
    values["dpo"] |= {"load_best_model_at_end": True, "early_stopping_patience": 2} | changes
    if words is None:
        assert validate_arguments(DPOArguments, values, "args.json")
        return
    with pytest.raises(InputError) as error:
        validate_arguments(DPOArguments, values, "args.json")
    assert any(words in message for message in error.value.messages)


def test_losses_and_divergences_are_those_of_trl():
    from inspect import getsource

    from trl import DPOTrainer

    source = getsource(DPOTrainer)
    assert set(re.findall(r'loss_type == "(\w+)"', source)) == set(LOSS_TYPES)
    assert set(re.findall(r'f_divergence_type == "(\w+)"', source)) == set(F_DIVERGENCES)
