"""Conflicts between the classifiers that evaluate or choose, the labels of a run, and what needs a classifier."""

from collections.abc import Iterator
from typing import Any

from response_generator.config.chat_schema import AUTO_EMOTION, ChatArguments
from response_generator.config.preference_schema import PreferenceDataArguments
from response_generator.config.schema import LabelArguments
from response_generator.config.scoring_schema import BY_PROBABILITY, BY_REWARD, RewardArguments
from response_generator.config.section import Section
from response_generator.config.sources import locate_source
from response_generator.config.training_schema import ClassifierArguments
from response_generator.constants import BASELINE
from response_generator.labels import DAILY_DIALOG_EMOTIONS

WEIGHTS = {"emotion_weight": "emotion_model", "gibberish_weight": "gibberish_model"}
FILTERS = {"chosen_has_target_emotion": "emotion_model", "chosen_gibberish_labels": "gibberish_model"}


def find_scoring_conflicts(model: type[Section], values: dict[str, Any]) -> Iterator[str]:
    """Finds the conflicts of an args file whose values may have any JSON type."""
    scoring = values.get("scoring")
    if scoring is not None and not isinstance(scoring, dict):
        return
    if scoring is not None:
        yield from find_classifier_conflicts(scoring, values.get("labels", list(DAILY_DIALOG_EMOTIONS)))
    if "best_of" in model.model_fields and isinstance(values.get("best_of"), dict):
        yield from find_best_of_conflicts(values["best_of"], values)
    if model is PreferenceDataArguments and isinstance(values.get("reward", {}), dict):
        yield from find_weight_conflicts(values.get("reward", {}), scoring or {})
        yield from find_penalty_conflicts(values.get("reward", {}), values.get("labels"))
        yield from find_fit_conflicts(values.get("reward", {}), scoring or {})
        yield from find_selection_conflicts(values, scoring or {})
    # Without the section, training and describing read the labels that the pairs have.
    if scoring is not None or model is PreferenceDataArguments:
        for path, filters in list_filters(values):
            yield from find_missing_classifiers(path, filters, scoring or {})


def find_label_conflicts(model: type[Section], values: dict[str, Any]) -> Iterator[str]:
    labels, neutral = values.get("labels", list(DAILY_DIALOG_EMOTIONS)), values.get("neutral_label")
    is_default = neutral in (None, LabelArguments.model_fields["neutral_label"].default)  # as args.json has it
    if isinstance(labels, list) and not is_default and neutral not in labels:
        yield f"neutral_label: got {neutral!r}; allowed: one of labels, {', '.join(map(str, labels))}; or null"
    if labels == [] and model is ClassifierArguments:
        yield "labels: got []; a classifier needs the labels that it is to tell apart"
    if labels == [] and values.get("target_emotions") == "balanced":
        yield 'target_emotions: "balanced" needs labels; got labels: []'
    dataset = values.get("dataset")
    if labels == [] and isinstance(dataset, dict) and dataset.get("target_emotions") == "all":
        yield 'dataset.target_emotions: "all" needs labels; got labels: []'
    if model is ChatArguments and isinstance(labels, list):
        allowed = ", ".join(map(str, labels)) or "null, because labels is []"
        for key in ("target_emotion", "user_emotion"):
            if isinstance(values.get(key), str) and values[key] not in labels:
                yield f"{key}: got {values[key]!r}; allowed: {allowed}"
        if AUTO_EMOTION in labels:
            yield f"labels: in a chat, {AUTO_EMOTION!r} is the label that the classifier finds; rename this label"


def list_filters(values: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The sections of filters in an args file, each with its path."""
    for path in ("", "dataset.", "eval_dataset."):
        section = values.get(path.removesuffix(".")) if path else values
        if isinstance(section, dict) and isinstance(section.get("filters"), dict):
            yield f"{path}filters", section["filters"]


def find_classifier_conflicts(scoring: dict[str, Any], labels: Any, section: str = "scoring") -> Iterator[str]:
    emotion_model = scoring.get("emotion_model")
    if emotion_model == scoring.get("gibberish_model") is not None:
        yield (
            f"{section}.gibberish_model: got {emotion_model!r}, which is also the emotion_model; name a classifier "
            f"that tells clean text from gibberish"
        )
    second = scoring.get("second_emotion_model")
    if second is not None and second in (emotion_model, scoring.get("gibberish_model")):
        yield (
            f"scoring.second_emotion_model: got {second!r}, which scoring already names; name another emotion "
            f"classifier, or remove the key"
        )
    if second is not None and emotion_model is None:
        yield (
            f"scoring.second_emotion_model: got {second!r}, but there is no emotion_model; name it as "
            f"scoring.emotion_model"
        )
    words = scoring.get("emotion_words")
    if words is not None and labels == []:
        yield f"scoring.emotion_words: got {words!r}, but labels is []; name labels, or remove the key"
    for name in ("emotion", "second_emotion"):
        yield from find_mapping_conflicts(
            f"{section}.{name}", scoring.get(f"{name}_model"), scoring.get(f"{name}_labels"), labels
        )


def find_mapping_conflicts(name: str, classifier: Any, mapping: Any, labels: Any) -> Iterator[str]:
    """Conflicts of an emotion classifier and the mapping of its labels with those of the run.

    Args:
        name: the start of its keys, such as "scoring.second_emotion".
    """
    if classifier is not None and labels == []:
        yield f"{name}_model: got {classifier!r}, but labels is []; name labels, or remove the classifier"
    if classifier is None and mapping is not None:
        yield f"{name}_labels: maps the labels of {name}_model, which is missing; remove the key"
    places = mapping.items() if isinstance(mapping, dict) else enumerate(mapping if isinstance(mapping, list) else [])
    for place, label in places:
        if isinstance(labels, list) and isinstance(label, str) and labels and label not in labels:
            allowed = ", ".join(map(str, labels))
            yield f"{name}_labels.{place}: got {label!r}; allowed: those of labels, {allowed}"


def find_weight_conflicts(reward: dict[str, Any], scoring: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, classifier in WEIGHTS.items():
        weight = reward.get(key, RewardArguments.model_fields[key].default)
        if weight and scoring.get(classifier) is None:
            yield (
                f"{prefix}scoring.{classifier}: missing; {prefix}reward.{key} is {weight}; name a classifier, or set "
                f"the weight to 0"
            )


def find_penalty_conflicts(reward: dict[str, Any], labels: Any, prefix: str = "") -> Iterator[str]:
    penalty, words = reward.get("naming_penalty"), reward.get("emotion_words")
    if penalty and labels == []:
        yield f"{prefix}reward.naming_penalty: got {penalty}; needs labels, whose words it looks for; got labels: []"
    if words is not None and not penalty:
        yield f"{prefix}reward.emotion_words: got {words!r}, but naming_penalty is 0; set it, or remove the words"


def find_fit_conflicts(reward: dict[str, Any], scoring: dict[str, Any]) -> Iterator[str]:
    weight, model = reward.get("fit_weight", 0), scoring.get("fit_model")
    if weight and model is None:
        yield f"scoring.fit_model: missing; reward.fit_weight is {weight}; name a model, or set the weight to 0"
    if model is not None and not weight:
        yield f"scoring.fit_model: got {model!r}, but reward.fit_weight is 0; set it, or remove the model"


def find_selection_conflicts(values: dict[str, Any], scoring: dict[str, Any]) -> Iterator[str]:
    selection, filters = values.get("pair_selection"), values.get("filters", {})
    if scoring.get("emotion_model") is not None:
        return
    if selection == "best_random_failing":
        yield f'scoring.emotion_model: missing; pair_selection "{selection}" needs it; name a classifier'
    if selection == "diverse" and isinstance(filters, dict) and filters.get("min_chosen_score") is None:
        yield (
            f'pair_selection: "{selection}" needs to know which replies are good; set filters.min_chosen_score, or '
            f"name a classifier as scoring.emotion_model"
        )


def find_missing_classifiers(path: str, filters: dict[str, Any], scoring: dict[str, Any]) -> Iterator[str]:
    for key, classifier in FILTERS.items():
        if filters.get(key) and scoring.get(classifier) is None:
            yield f"scoring.{classifier}: missing; {path}.{key} needs it; name a classifier, or remove the filter"


def find_best_of_conflicts(best_of: dict[str, Any], values: dict[str, Any]) -> Iterator[str]:
    """Conflicts of the section best_of, and of its classifiers with those that evaluate the replies."""
    labels, choosing = values.get("labels", list(DAILY_DIALOG_EMOTIONS)), best_of.get("scoring", {})
    if isinstance(values.get("generation"), dict) and not values["generation"].get("do_sample"):
        yield "best_of: without sampling all replies to a prompt are the same; set generation.do_sample: true"
    models = best_of.get("models")
    if isinstance(models, list) and BASELINE in models and values.get("baseline_adapter") is None:
        yield f'best_of.models: got "{BASELINE}", but there is no baseline_adapter; name one, or remove the model'
    if not isinstance(choosing, dict) or not isinstance(best_of.get("reward", {}), dict):
        return
    yield from find_classifier_conflicts(choosing, labels, "best_of.scoring")
    if best_of.get("choose_by", BY_PROBABILITY) == BY_PROBABILITY:
        yield from find_probability_conflicts(best_of, choosing, labels)
    elif best_of["choose_by"] == BY_REWARD:
        yield from find_weight_conflicts(best_of.get("reward", {}), choosing, "best_of.")
        yield from find_penalty_conflicts(best_of.get("reward", {}), labels, "best_of.")
        if best_of.get("reward", {}).get("fit_weight"):
            weight = best_of["reward"]["fit_weight"]
            yield f"best_of.reward.fit_weight: got {weight}; the best reply is chosen without its fit; remove the key"
    if isinstance(values.get("scoring", {}), dict):
        yield from find_shared_classifiers(values.get("scoring", {}), choosing)


def find_probability_conflicts(best_of: dict[str, Any], choosing: dict[str, Any], labels: Any) -> Iterator[str]:
    if labels == []:
        yield f'best_of.choose_by: "{BY_PROBABILITY}" needs labels; got labels: []; choose by "{BY_REWARD}"'
    elif choosing.get("emotion_model") is None:
        yield f'best_of.scoring.emotion_model: missing; best_of.choose_by is "{BY_PROBABILITY}"; name a classifier'
    for key, value in (("reward", best_of.get("reward")), ("scoring.gibberish_model", choosing.get("gibberish_model"))):
        if value is not None:
            yield f'best_of.{key}: only for choose_by "{BY_REWARD}"; remove it'


def find_shared_classifiers(evaluating: dict[str, Any], choosing: dict[str, Any]) -> Iterator[str]:
    """Classifiers that would evaluate what they have chosen themselves."""
    for key in WEIGHTS.values():
        for other in (key, f"second_{key}"):
            if is_same_model(evaluating.get(other), choosing.get(key)):
                yield (
                    f"best_of.scoring.{key}: got {choosing[key]!r}, which is also scoring.{other}: it would evaluate "
                    f"the replies that it has chosen, its errors among them; name another classifier in one of the two"
                )


def is_same_model(one: Any, other: Any) -> bool:
    try:
        return isinstance(one, str) and isinstance(other, str) and locate_source(one) == locate_source(other)
    except ValueError:  # no name of a file; the schema reports it
        return False
