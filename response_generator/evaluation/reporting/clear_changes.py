"""Whether a difference between two models is clear, or could be noise."""

from response_generator.evaluation.statistics.estimates import Estimate

SIGNIFICANCE_LEVEL = 0.05


def is_clear_change(difference: Estimate) -> bool:
    """Whether both the interval and the corrected p-value exclude "no difference"."""
    corrected = difference.p_corrected
    return excludes_zero(difference) and corrected is not None and corrected < SIGNIFICANCE_LEVEL


def explain_noise(difference: Estimate) -> str:
    """Why a difference is no clear change: which of the interval and the p-value does not exclude "no difference"."""
    interval = "there is no interval" if difference.low is None else "the interval includes 0"
    if difference.p_corrected is None:
        return interval
    if excludes_zero(difference):
        return f"the corrected p is not below {SIGNIFICANCE_LEVEL}, although the interval excludes 0"
    if difference.p_corrected < SIGNIFICANCE_LEVEL:
        return f"{interval}, although the corrected p is below {SIGNIFICANCE_LEVEL}"
    return f"{interval} and the corrected p is not below {SIGNIFICANCE_LEVEL}"


def excludes_zero(difference: Estimate) -> bool:
    return difference.low is not None and (difference.low > 0 or difference.high < 0)
