"""The table as it is printed: at every width each number and each interval is whole."""

import io
import re
from collections import Counter

import pytest
from rich.console import Console
from test_metrics import LABELS, row
from tiny_models import EMOTION_LABELS

from response_generator.evaluation.comparison import Comparison, compare_models
from response_generator.evaluation.reporting import terminal_table
from response_generator.evaluation.reporting.conclusions import draw_conclusions
from response_generator.labels import DAILY_DIALOG_EMOTIONS as EMOTIONS
from response_generator.runs.terminal import LOG_WIDTH

ON_TERMINAL = [
    "target emotion followed",
    "… controlled for length",
    "… of targets other than neutral",
    "emotion F1, weighted",
    "emotion F1, macro",
    "ends with punctuation",
    "stopped by max_new_tokens",
    "same reply to another prompt",
    "copies the user's last turn",
    "tokens per reply",
    "distinct-1 in 280 n-grams",
    "distinct-2 in 210 n-grams",
    "perplexity of the gold replies",
    "clean",
]


def make_rows(right: int) -> list[dict]:
    """70 replies; the target is followed in `right` of every ten."""
    return [
        row(
            index,
            EMOTIONS[index % 7],
            EMOTIONS[index % 7] if index % 10 < right else EMOTIONS[(index + 1) % 7],
            new_tokens=10 * right + index % 9,
            gold_logp=-2.0 * right - index % 4,
            gibberish_label="clean" if index % 10 < right else "noise",
        )
        for index in range(70)
    ]


def compare(*names: str) -> Comparison:
    return compare_models(
        {name: make_rows(4 + 2 * place) for place, name in enumerate(names)}, EMOTION_LABELS, LABELS, 200, seed=1
    )


def render(comparison: Comparison, width: int) -> list[list[str]]:
    """The lines of each table."""
    tables = []
    for table in terminal_table.build_tables(comparison, width):
        console = Console(file=io.StringIO(), width=width)
        console.print(table)
        tables.append([line.rstrip() for line in console.file.getvalue().splitlines()])
    return tables


def list_shown_estimates(comparison: Comparison) -> list:
    shown = [metric for metric in comparison.metrics.values() if metric.carries_conclusions]
    groups = [*comparison.estimates.values(), *comparison.differences.values()]
    return [(group[metric.name], metric.in_percent) for metric in shown for group in groups if metric.name in group]


FORMS = {
    "one model": ["adapter"],
    "two models": ["baseline", "adapter"],
    "three runs": ["evaluate_sft", "evaluate_dpo_42", "evaluate_dpo_43"],
    "long names": ["a_folder_with_a_very_long_name/evaluate", "another_folder_with_a_long_name/evaluate", "c", "d"],
}


@pytest.mark.parametrize("width", [40, 80, 100, 120, 150, 160])
@pytest.mark.parametrize("form", FORMS)
def test_each_interval_and_number_is_whole(form, width):
    found = compare(*FORMS[form])
    lines = [line for table in render(found, width) for line in table]
    assert max(map(len, lines)) <= width
    intervals, tests = Counter(), 0
    for estimate, in_percent in list_shown_estimates(found):
        scale, digits = (100, 1) if in_percent else (1, 2)
        if estimate.low is not None:
            low, high = (f"{round(bound * scale, digits) + 0.0:.{digits}f}" for bound in (estimate.low, estimate.high))
            intervals[f"[{low}, {high}]"] += 1
        tests += estimate.p is not None
    text = "\n".join(lines)
    assert Counter(re.findall(r"\[[-.\d]+, [-.\d]+\]", text)) == intervals
    assert len(re.findall(r" p \d\.\d(?:\d{3}|e-\d\d)(?!\S)", text)) == tests
    assert text.count("[") == text.count("]") == sum(intervals.values())


def test_wide_a_row_is_one_line_and_narrow_the_interval_is_below_its_value():
    found = compare("baseline", "adapter")
    ((*_, wide),) = (
        [line for line in table if line.startswith("target emotion followed")] for table in render(found, 150)
    )
    assert re.fullmatch(
        r"target emotion followed +40.0 \[[^]]+\] +60.0 \[[^]]+\] +\+20.0 \[[^]]+\] p 0.0001 +14.3 \[[^]]+\]", wide
    )
    (narrow,) = render(found, 80)
    place = next(place for place, line in enumerate(narrow) if line.startswith("target emotion"))
    assert re.fullmatch(r"target emotion +40.0 +60.0 +\+20.0 p 0.0001 +14.3", narrow[place])
    assert re.fullmatch(r"followed +\[[^]]+\] +\[[^]]+\] +\[[^]]+\] +\[[^]]+\]", narrow[place + 1])
    # Numbers of a column end at the same place as its intervals.
    assert narrow[place].index("40.0") + 4 == narrow[place + 1].index("]") + 1


def test_what_does_not_fit_is_a_table_of_its_own_with_the_differences():
    values, differences = render(compare("evaluate_sft", "evaluate_dpo_42", "evaluate_dpo_43"), 80)
    assert values[0].split() == ["evaluate_sft", "evaluate_dpo_42", "evaluate_dpo_43", "gold", "replies"]
    headings = " ".join(" ".join(differences[:2]).split())
    assert "evaluate_dpo_42 − evaluate_sft" in headings and headings.count("−") == 2


def test_the_metrics_of_the_conclusions_are_shown_and_the_others_are_in_the_report(capsys):
    found = compare("baseline", "adapter")
    (lines,) = render(found, 150)
    titles = [re.split(r"  +", line)[0] for line in lines[2:] if re.search(r"  +[\d–]", line)]
    assert titles == ON_TERMINAL
    speed = {"replies_per_second": 4.5, "new_tokens_per_second": 95.0, "generated_tokens_per_reply": 21.1}
    terminal_table.show_table(found, {"adapter": speed})
    printed = capsys.readouterr().out
    assert "evaluation of 70 prompts; rates in %, differences in points, [95 % interval]\n" in printed
    assert "All metrics, also those of each emotion, are in report.html.\n" in printed
    assert "adapter: 4.50 replies/s, 95.0 new tokens/s, 21.1 generated tokens per reply\n" in printed
    sentences = [line for line in printed.splitlines() if line.startswith("- ")]
    assert [f"- {conclusion}" for conclusion in draw_conclusions(found)] == sentences
    assert max(map(len, sentences)) > LOG_WIDTH  # in a file a sentence is one line


@pytest.mark.parametrize(("prompts", "is_noted"), [(29, True), (30, False)])
def test_a_small_evaluation_says_why_intervals_are_missing(prompts, is_noted, capsys):
    terminal_table.show_table(
        compare_models({"adapter": make_rows(4)[:prompts]}, EMOTION_LABELS, LABELS, 100, seed=1), {}
    )
    note = "With fewer than 30 prompts only shares and their differences have intervals.\n"
    assert (note in capsys.readouterr().out) == is_noted


def test_a_sentence_is_wrapped_between_words_but_not_inside_of_an_interval():
    sentence = "It is so: +1.0 points, 95 % CI [-2.9, 2.9], 70.6 % and no more."
    assert terminal_table.wrap_sentence(sentence, 40).splitlines() == [
        "- It is so: +1.0 points, 95 % CI",
        "  [-2.9, 2.9], 70.6 % and no more.",
    ]
    narrow = terminal_table.wrap_sentence(sentence, 27).splitlines()
    assert narrow[:2] == ["- It is so: +1.0 points,", "  95 % CI [-2.9, 2.9],"]
