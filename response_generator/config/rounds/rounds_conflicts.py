"""Values of an args file of rounds that contradict each other; what one program alone refuses stands in `conflicts`."""

from collections.abc import Iterator
from functools import reduce
from typing import Any

from response_generator.config.args_file import PROGRAM_SECTIONS
from response_generator.labels import DAILY_DIALOG_EMOTIONS

SHARED_KEYS = {"backend": None, "base_model": None, "labels": list(DAILY_DIALOG_EMOTIONS), "neutral_label": "neutral"}
NOT_IN_ROUNDS = {  # what may not be set, with the reason
    "preference_args.push_to_hub": "every round would upload to the same repository",
    "dpo_args.push_to_hub": "every round would upload to the same repository",
    "dpo_args.export": "every round would write the same folder; response_generator.export writes it afterwards",
    "dpo_args.lora": "the rounds go on training the one that adapter names",
    "dpo_args.reference_adapter": "the key reference says which adapter is the reference",
}


def find_round_conflicts(values: dict[str, Any]) -> Iterator[str]:
    """Finds the conflicts of an args file whose values may have any JSON type."""
    for path, reason in NOT_IN_ROUNDS.items():
        if get_value(values, path) is not None:
            yield f"{path}: {reason}; remove it"
    sections = [section for section in PROGRAM_SECTIONS if isinstance(values.get(section), dict)]
    for key, default in SHARED_KEYS.items():
        found = {section: values[section].get(key, default) for section in sections}
        if any(value != found[sections[0]] for value in found.values()):
            described = ", ".join(f"{value!r} in {section}" for section, value in found.items())
            yield f"{key}: got {described}; all rounds run in one process, with one model and one set of labels"
    if "evaluate_args" in sections:
        yield from find_missing_scorers(values)
    if {"preference_args", "evaluate_args"} <= set(sections):
        yield from find_shared_dialogues(values)


def find_missing_scorers(values: dict[str, Any]) -> Iterator[str]:
    scoring = "evaluate_args.scoring"
    if get_value(values, f"{scoring}.emotion_model") is None:
        yield f"{scoring}.emotion_model: missing; the best round is the one that follows most targets"
    if get_value(values, "stop.min_fit_ratio") is not None and get_value(values, f"{scoring}.fit_model") is None:
        yield f"{scoring}.fit_model: missing; stop.min_fit_ratio needs it; name a model, or remove the limit"
    has_words = set(get_value(values, "evaluate_args.labels") or DAILY_DIALOG_EMOTIONS) <= set(DAILY_DIALOG_EMOTIONS)
    if (
        get_value(values, "stop.max_naming_rise") is not None
        and not has_words
        and get_value(values, f"{scoring}.emotion_words") is None
    ):
        yield f"{scoring}.emotion_words: missing; stop.max_naming_rise needs it with labels of your own"


def find_shared_dialogues(values: dict[str, Any]) -> Iterator[str]:
    """Dialogues that would choose the best round, and that the rounds are trained on."""
    used, choosing = (get_value(values, f"{section}.dataset") for section in ("preference_args", "evaluate_args"))
    if not isinstance(used, dict) or not isinstance(choosing, dict):
        return
    if any(used.get(key) != choosing.get(key) for key in ("path", "name", "revision")):
        return
    if used.get("split", "train") != choosing.get("split", "train"):
        return
    rounds, size = values.get("rounds"), values.get("dialogues_per_round")
    start, other_start, limit = used.get("offset", 0), choosing.get("offset", 0), choosing.get("limit")
    if not all(isinstance(number, int) for number in (rounds, size, start, other_start)):
        return
    if start + rounds * size > other_start and (not isinstance(limit, int) or other_start + limit > start):
        yield (
            f"evaluate_args.dataset: shares rows with preference_args.dataset, of which the rounds read {start} to "
            f"{start + rounds * size - 1}; evaluate on other dialogues"
        )


def get_value(values: Any, path: str) -> Any:
    """The value of `section.key`; None where there is none."""
    return reduce(lambda found, key: found.get(key) if isinstance(found, dict) else None, path.split("."), values)
