"""Which replies are printed side by side, and how."""

import re

from test_metrics import LABELS, row
from tiny_models import EMOTION_LABELS

from response_generator.evaluation.comparison import compare_models
from response_generator.evaluation.reporting import examples


def show(capsys, **models: list[dict]) -> str:
    examples.show_examples(compare_models(models, EMOTION_LABELS, LABELS, 100, seed=1))
    return capsys.readouterr().out


def make_rows(replies: list[str], **changes) -> list[dict]:
    return [row(index, response=reply, **changes) for index, reply in enumerate(replies)]


def test_the_first_three_prompts_whose_replies_differ_are_shown(capsys):
    before = make_rows([f"before {number}" for number in range(6)], predicted="neutral")
    after = make_rows(["before 0", *(f"after {number}" for number in range(1, 6))])
    shown = show(capsys, baseline=before, adapter=after)
    assert "the first 3 of 5 prompts whose replies differ" in shown
    assert re.findall(r"before \d|after \d", shown) == [
        text for number in (1, 2, 3) for text in (f"before {number}", f"after {number}")
    ]
    (first, *_) = re.findall(r"target: .*", shown)
    assert re.findall(r"\w+: \w+", first) == ["target: anger", "label: neutral", "label: anger"]
    assert "Is it raining ?" in shown


def test_a_dialogue_that_was_asked_for_all_labels_is_shown_once(capsys):
    before, after = (
        [
            row(index, target, gold_target="anger", response=f"{name} {target} {index}")
            for index in range(2)
            for target in EMOTION_LABELS.names
        ]
        for name in ("before", "after")
    )
    shown = show(capsys, baseline=before, adapter=after)
    assert "the first 2 of 2 prompts whose replies differ" in shown and "before anger 1" in shown
    assert "fear" not in shown


def test_of_several_samples_and_training_runs_the_first_reply_is_shown(capsys):
    before = [row(index, sample=sample, response=f"b{index}{sample}") for index in (0, 1) for sample in (0, 1)]
    after = [
        row(index, sample=sample, response=f"a{index}{run}{sample}", run=run)
        for index in (0, 1)
        for run in (0, 1)
        for sample in (0, 1)
    ]
    shown = show(capsys, SFT=before, DPO=after)
    assert re.findall(r"[ab]\d+", shown) == ["b00", "a000", "b10", "a100"]


def test_equal_replies_are_said_to_be_equal_and_other_numbers_of_models_show_none(capsys):
    rows = make_rows(["the same", "and the same"])
    assert show(capsys, baseline=rows, adapter=rows) == "both models gave the same reply to every prompt\n"
    assert show(capsys, adapter=rows) == ""
    assert show(capsys, a=rows, b=make_rows(["x", "y"]), c=rows) == ""


def test_of_more_models_baseline_and_adapter_are_shown(capsys):
    replies = {"baseline": "x", "adapter": "y", "baseline best of 3": "z"}
    shown = show(capsys, **{model: make_rows([reply, reply + reply]) for model, reply in replies.items()})
    assert "the first 2 of 2 prompts" in shown
    assert re.findall(r"\b[xyz]+\b", shown) == ["x", "y", "xx", "yy"]


def test_control_characters_do_not_reach_the_terminal(capsys):
    shown = show(capsys, baseline=make_rows(["plain"]), adapter=make_rows(["\x1b]0;title\x07 red\n[bold]text"]))
    assert "\x1b" not in shown and "\x07" not in shown
    assert "]0;title" in shown and "red [bold]text" in shown
