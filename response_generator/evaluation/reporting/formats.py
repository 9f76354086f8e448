"""Numbers, intervals and p-values as text."""

from collections.abc import Mapping

from response_generator.evaluation.comparison import Comparison
from response_generator.evaluation.statistics.estimates import Estimate

Throughput = Mapping[str, Mapping[str, float]]  # that of `predictions.read_throughput`


def describe_replies(comparison: Comparison) -> str:
    """How many replies a prompt has, to be written after the number of prompts; empty for one."""
    replies = comparison.replies // comparison.prompts
    targets = f", for all {comparison.targets} {comparison.labels.noun}s" if comparison.targets > 1 else ""
    return f" with {replies} replies each{targets}" if replies > 1 else ""


def describe_speed(throughput: Throughput) -> list[str]:
    """What the replies of each model cost: one line a model."""
    return [
        f"{model}: {speed['replies_per_second']:.2f} replies/s, {speed['new_tokens_per_second']:.1f} new tokens/s, "
        f"{speed['generated_tokens_per_reply']:.1f} generated tokens per reply"
        for model, speed in throughput.items()
    ]


def format_number(number: float, in_percent: bool, signed: bool = False) -> str:
    """In percent or points with one digit, otherwise as it is with two."""
    scale, digits = (100, 1) if in_percent else (1, 2)
    rounded = round(number * scale, digits) + 0.0  # no "-0.0"
    return f"{rounded:{'+' if signed else ''}.{digits}f}"


def format_interval(estimate: Estimate, in_percent: bool) -> str:
    if estimate.low is None:
        return ""
    return f"[{format_number(estimate.low, in_percent)}, {format_number(estimate.high, in_percent)}]"


def format_p_value(p: float | None) -> str:
    if p is None:
        return "unknown"
    return f"{p:.4f}" if p >= 0.0001 else f"{p:.1e}"
