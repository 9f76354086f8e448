"""Output before replies are generated: the first prompt, lengths, the number of replies, and warnings."""

import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from rich.text import Text

from response_generator.cli.data_preview import console, show_warning
from response_generator.cli.preview import show_counts, show_special_tokens, show_template_warnings
from response_generator.config.preference_schema import PreferenceDataArguments
from response_generator.config.schema import EvaluateArguments
from response_generator.config.sources import is_local
from response_generator.constants import BASELINE
from response_generator.data.chat_template import ChatFormatter
from response_generator.evaluation.best_of import count_candidates, list_best_of
from response_generator.evaluation.pipeline import PreparedEvaluation
from response_generator.evaluation.statistics.power import POWER, find_smallest_difference
from response_generator.generation.generation_requests import GenerationRequest
from response_generator.preferences.preparation import PreparedBuilding
from response_generator.runs.run_folder import read_json

ASSUMED_DIFFERING = 0.3  # share of prompts in which one model follows the target and the other does not


def show_evaluation(args: EvaluateArguments, prepared: PreparedEvaluation) -> None:
    """Prints the first prompt as the model gets it, the prompt lengths and the number of replies to generate."""
    show_prompts(prepared.requests, prepared.formatter)
    dialogues = len({request.dialogue.index for request in prepared.requests})
    targets = len(prepared.requests) // dialogues
    if targets > 1:
        console.print(f"{dialogues} dialogues, each with {targets} targets")
    replies = len(prepared.requests) * len(prepared.adapters) * args.samples_per_prompt
    rows = list_best_of(args, list(prepared.adapters))
    candidates = len(prepared.requests) * len(rows) * count_candidates(args)
    chosen = f" and {candidates} candidates for {', '.join(rows)}," if rows else ""
    console.print(f"{replies} replies{chosen} of up to {prepared.generation_config.max_new_tokens} new tokens")
    if BASELINE in prepared.adapters:
        console.print(describe_power(dialogues, targets * args.samples_per_prompt))
    show_template_warnings(prepared.formatter)
    show_shared_models(args)
    if prepared.held_out:
        show_counts("heldout_pairs", prepared.held_out, prepared.formatter)


def describe_power(prompts: int, replies: int) -> str:
    """What difference of a share, such as that of the followed targets, the run can show.

    Args:
        replies: to each prompt.
    """
    smallest = find_smallest_difference(prompts, ASSUMED_DIFFERING)
    assumption = f"if the models differ on {ASSUMED_DIFFERING:.0%} of the prompts".replace("%", " %")
    runs = f"{POWER:.0%} of such runs".replace("%", " %")
    if smallest is None:
        return f"{prompts} prompts are too few to show any difference in {runs}, {assumption}"
    more = "; several replies to a prompt lower that" if replies > 1 else ""
    points = math.ceil(smallest * 100)
    return f"{prompts} prompts show a difference of {points} points or more in {runs}, {assumption}{more}"


def show_building(args: PreferenceDataArguments, prepared: PreparedBuilding) -> None:
    """Prints the first prompt as the model gets it, the prompt lengths and the number of candidates to sample."""
    show_prompts(prepared.requests, prepared.formatter)
    once = len(prepared.requests) * args.candidates
    console.print(
        f"{once} candidates of up to {prepared.generation_config.max_new_tokens} new tokens if every first attempt "
        f"gives a pair, at most {once * args.max_attempts}"
    )
    if args.scoring.fit_model is not None:
        console.print(
            f"the fit of candidates that may still pass the filters: each is read in {1 + args.scoring.fit_dialogues} "
            f"dialogues"
        )
    show_template_warnings(prepared.formatter)


def show_prompts(requests: list[GenerationRequest], formatter: ChatFormatter) -> None:
    lengths = [request.length for request in requests]
    console.print("\n[bold]the first prompt, with special tokens[/bold]")
    console.print(Text(requests[0].prompt, style="dim"), soft_wrap=True)
    for marker in formatter.missing_markers(requests[0].prompt):
        console.print(
            Text(f"the required marker {marker!r} is missing: check that chat_template.file fits", style="yellow")
        )
    histories = {request.dialogue.index: request.dialogue.history for request in requests}
    counts = Counter(token for history in histories.values() for token in formatter.special_tokens_in(history))
    show_special_tokens(counts, "dialogues")
    console.print(f"prompts {len(requests)}, tokens: median {np.median(lengths):.0f}, max {max(lengths)}")


def show_shared_models(args: EvaluateArguments) -> None:
    """Warns when a model of the evaluation also chose the pairs that the adapter was trained on."""
    scoring = find_pair_scoring(args.adapter)
    for key, effect in (("emotion_model", "its labels favor"), ("fit_model", "the fit favors")):
        name = getattr(args.scoring, key)
        if name is not None and scoring.get(key) == name:
            show_warning(
                f"warning: scoring.{key} {name} also chose the pairs that the adapter was trained on, so {effect} the "
                f"adapter; evaluate with another {'classifier' if key == 'emotion_model' else 'model'}"
            )


def find_pair_scoring(adapter: str) -> dict[str, Any]:
    """Follows the run folders on this machine, from the adapter to the pairs to the models that scored them.

    Returns:
        The section `scoring` of the run that built the pairs; {} where one of these runs is not known.
    """
    pairs = read_json(Path(adapter).parent / "args.json").get("dataset", {}).get("path") if is_local(adapter) else None
    if pairs is None or not is_local(pairs):
        return {}
    return read_json(Path(pairs).parent / "args.json").get("scoring") or {}
