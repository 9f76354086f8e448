"""Values of an args file that contradict each other or are not supported; those of training are in
`training_conflicts`. The libraries would report them late or not at all."""

import re
from collections.abc import Iterator
from typing import Any

ATTENTION_IMPLEMENTATIONS = ("eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention")
DEVICE_MAP_PATTERN = r"auto|balanced|balanced_low_0|sequential|cpu|(cuda|xpu)(:\d+)?"
DTYPES = ("bfloat16", "float16", "float32")


def find_loading_conflicts(loading: dict[str, Any]) -> Iterator[str]:
    """Finds values of `from_pretrained` that no loader accepts. JSON types are checked in `validation`."""
    attention, device_map = loading.get("attn_implementation"), loading.get("device_map")
    if isinstance(attention, str) and attention not in ATTENTION_IMPLEMENTATIONS:
        allowed = ", ".join(ATTENTION_IMPLEMENTATIONS)
        yield f"from_pretrained.attn_implementation: got {attention!r}; allowed: {allowed}, null"
    if type(device_map) not in (dict, int, type(None)) and not re.fullmatch(DEVICE_MAP_PATTERN, str(device_map)):
        allowed = "auto, balanced, sequential, cpu, cuda, cuda:0, an object that maps modules to devices"
        yield f"from_pretrained.device_map: got {device_map!r}; allowed: {allowed}"
    if loading.get("dtype") not in (None, *DTYPES):
        yield f"from_pretrained.dtype: got {loading['dtype']!r}; allowed: {', '.join(DTYPES)}, null"


def find_generation_conflicts(values: dict[str, Any]) -> Iterator[str]:
    """Finds conflicts between the values of an args file that generates replies. JSON types are checked in
    `validation`."""
    generation = values["generation"]
    if generation.get("max_new_tokens") is None:
        yield "generation.max_new_tokens: missing; without it, prompt and reply together would be limited to 20 tokens"
    min_tokens, max_tokens = generation.get("min_new_tokens"), generation.get("max_new_tokens")
    if isinstance(min_tokens, int) and isinstance(max_tokens, int) and min_tokens > max_tokens:
        yield f"generation.min_new_tokens: got {min_tokens}; allowed: up to max_new_tokens ({max_tokens})"
    scoring = values.get("scoring")
    if isinstance(scoring, dict) and scoring.get("emotion_model") == scoring.get("gibberish_model") is not None:
        yield (
            f"scoring.gibberish_model: got {scoring['gibberish_model']!r}, which is also the emotion_model; name a "
            f"classifier that tells clean text from gibberish"
        )


def find_evaluation_conflicts(values: dict[str, Any]) -> Iterator[str]:
    """Finds conflicts between the values of an evaluate.py args file."""
    generation = values["generation"]
    samples = values.get("samples_per_prompt", 1)
    if samples != 1 and not generation.get("do_sample"):
        yield (
            f"samples_per_prompt: got {samples}; without sampling all replies to a prompt are the same; set "
            f"generation.do_sample: true"
        )
    if values.get("preferences") is not None and values.get("baseline_adapter") is None:
        yield 'preferences: the implicit reward needs a baseline; set baseline_adapter to an adapter, or to "none"'


def find_preference_conflicts(values: dict[str, Any]) -> Iterator[str]:
    """Finds conflicts between the values of an args file that builds preference data."""
    if values.get("target_emotions") == "balanced" and values.get("gold_as_chosen"):
        yield (
            'target_emotions: "balanced" gives most prompts another target than their gold reply has, so '
            "gold_as_chosen must be false"
        )
    if not values["generation"].get("do_sample"):
        yield "generation.do_sample: must be true; without sampling all candidates of a prompt are the same"
    turns = values.get("history_turns")
    if isinstance(turns, int) and turns % 2 == 0:
        yield f"history_turns: got {turns}; allowed: an odd number, because the last turn of a prompt is the user's"
    reward = values.get("reward")
    if isinstance(reward, dict):
        yield from find_range_conflicts("reward", reward)


def find_chat_conflicts(generation: dict[str, Any]) -> Iterator[str]:
    """Finds values of `generation` that `generate` refuses when it shows a reply while it is written."""
    if generation.get("num_beams", 1) != 1:
        yield f"generation.num_beams: got {generation['num_beams']}; allowed: 1; replies are shown token by token"


def find_filter_conflicts(section: str, filters: dict[str, Any]) -> Iterator[str]:
    yield from find_range_conflicts(section, filters)
    if filters.get("min_chosen_gibberish_score") is not None and filters.get("chosen_gibberish_labels") is None:
        yield f'{section}.min_chosen_gibberish_score: needs {section}.chosen_gibberish_labels, for example ["clean"]'


def find_range_conflicts(section: str, values: dict[str, Any]) -> Iterator[str]:
    least, most = values.get("min_characters"), values.get("max_characters")
    if isinstance(least, int) and isinstance(most, int) and least > most:
        yield f"{section}.min_characters: got {least}; allowed: up to max_characters ({most})"
