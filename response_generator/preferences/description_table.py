"""The description of preference pairs as rows of text, for the terminal, the report and the data card."""

from collections.abc import Iterator

from rich.table import Table
from rich.text import Text

from response_generator.preferences.filters import FILTERED
from response_generator.runs.terminal import PlainConsole

Rows = list[tuple[str, str]]  # title, value

SUMMARIES = {
    "margin": "chosen_score - rejected_score",
    "chosen_score": "chosen_score",
    "rejected_score": "rejected_score",
    "chosen_fit": "fit of chosen to the dialogue (nats a token)",
    "rejected_fit": "fit of rejected to the dialogue (nats a token)",
    "chosen_characters": "characters of chosen",
    "rejected_characters": "characters of rejected",
}
SHARES = {
    "margin/share_not_positive": "margin not above 0",
    "chosen_cut_off": "chosen without punctuation at its end",
    "rejected_cut_off": "rejected without punctuation at its end",
    "chosen_longer": "chosen is the longer reply",
    "chosen_names_emotion": "chosen names its emotion (targets other than neutral)",
    "rejected_names_emotion": "rejected names its emotion (targets other than neutral)",
}
# Outside of these the pairs get a warning: shares of pairs.
MIN_CHOSEN_LONGER, MAX_CHOSEN_LONGER = 0.4, 0.6
MAX_NAMING_LEAD, MAX_NAMING_LAG = 0.1, 0.3  # of chosen replies; with a penalty they are behind
COUNTS = {
    "exact_duplicates": "exact duplicates of an earlier pair",
    "near_duplicates": "near duplicates of an earlier pair",
    "same_replies": "chosen and rejected are the same",
}


def show_description(rows: Rows) -> None:
    table = Table(title="preference pairs", title_justify="left", show_header=False)
    for title, value in rows:
        table.add_row(Text(title), Text(value))  # a marker such as [INST] is no markup
    PlainConsole(highlight=False).print(table)


def build_rows(metrics: dict[str, float]) -> Rows:
    """The metrics of `describe_pairs`, and those of filters if there are any."""
    return [
        ("pairs", f"{metrics['pairs']} of {metrics['prompts']} prompts"),
        *list_filtered(metrics),
        *list_summaries(metrics),
        *((title, f"{metrics[name]:.1%}") for name, title in SHARES.items() if name in metrics),
        *list_correlation(metrics),
        *((title, str(metrics[name])) for name, title in COUNTS.items()),
        *list_targets(metrics),
        *(
            (f"prompts without {name.removeprefix('missing_marker/')}", str(count))
            for name, count in metrics.items()
            if name.startswith("missing_marker/") and count
        ),
        *(("warning", text) for text in find_warnings(metrics)),
    ]


def find_warnings(metrics: dict[str, float]) -> Iterator[str]:
    """What the pairs also teach, and the setting that answers it."""
    longer = metrics["chosen_longer"]
    if not MIN_CHOSEN_LONGER <= longer <= MAX_CHOSEN_LONGER:
        kind, share = ("longer", longer) if longer > MAX_CHOSEN_LONGER else ("shorter", 1 - longer)
        yield (
            f"the chosen reply is the {kind} one in {share:.0%} of the pairs, so DPO also teaches {kind} replies: set "
            f"filters.max_length_difference (docs/preferences.md, What the pairs teach)"
        )
    chosen, rejected = (metrics.get(f"{side}_names_emotion", 0) for side in ("chosen", "rejected"))
    if chosen - rejected > MAX_NAMING_LEAD:
        yield (
            f"chosen replies name their emotion more often than rejected ones (in {chosen:.0%} and {rejected:.0%} of "
            f"the pairs), so DPO also teaches to name it: set reward.naming_penalty where the pairs are built "
            f"(docs/preferences.md, What the pairs teach)"
        )
    if rejected - chosen > MAX_NAMING_LAG:
        yield (
            f"rejected replies name their emotion in {rejected:.0%} of the pairs, chosen ones in {chosen:.0%}, so DPO "
            f"teaches to avoid the word more than to show the emotion: lower reward.naming_penalty where the pairs are "
            f"built (docs/preferences.md, What the pairs teach)"
        )


def list_summaries(metrics: dict[str, float]) -> Iterator[tuple[str, str]]:
    for name, title in SUMMARIES.items():
        if f"{name}/median" in metrics:
            digits = 0 if "characters" in name else 3
            values = [
                f"{statistic} {metrics[f'{name}/{statistic}']:.{digits}f}" for statistic in ("median", "mean", "sd")
            ]
            values.append(f"5 to 95 %: {metrics[f'{name}/p05']:.{digits}f} to {metrics[f'{name}/p95']:.{digits}f}")
            yield title, ", ".join(values)


def list_correlation(metrics: dict[str, float]) -> Iterator[tuple[str, str]]:
    if "margin_length_correlation" in metrics:
        yield (
            "correlation of the margin with chosen's lead in characters",
            f"{metrics['margin_length_correlation']:.2f}",
        )


def list_targets(metrics: dict[str, float]) -> Iterator[tuple[str, str]]:
    counts = {name.removeprefix("target/"): count for name, count in metrics.items() if name.startswith("target/")}
    if counts:  # there are none without labels
        yield "targets", ", ".join(f"{label} {count}" for label, count in counts.items())


def list_filtered(metrics: dict[str, float]) -> Iterator[tuple[str, str]]:
    for name, count in metrics.items():
        if f"/{FILTERED}/" in name:
            yield f"dropped by {name.rpartition('/')[2]}", str(count)
