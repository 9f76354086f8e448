"""Numbers, intervals and p-values as text."""

from response_generator.evaluation.comparison import Comparison
from response_generator.evaluation.statistics.estimates import Estimate


def describe_replies(comparison: Comparison) -> str:
    """How many replies a prompt has, to be written after the number of prompts; empty for one."""
    replies = comparison.replies // comparison.prompts
    targets = f", for all {comparison.targets} {comparison.labels.noun}s" if comparison.targets > 1 else ""
    return f" with {replies} replies each{targets}" if replies > 1 else ""


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
