"""The scores of a blind test against values worked out by hand, scikit-learn's, scipy's and statsmodels'."""

import io
import json
import re

import numpy as np
import pytest
from conftest import read_json, read_lines, write_rows
from made_blind_tests import (
    FIRST,
    SECOND,
    answer_pairs,
    compare_rows,
    made_rows,
    run_blind_test,
    to_plain_rows,
    write_answers,
    write_run,
)
from rich.console import Console
from scipy.stats import binomtest
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.inter_rater import cohens_kappa, to_table
from statsmodels.stats.proportion import proportion_confint

from response_generator.blind_test.results import build_table
from response_generator.blind_test.scoring import score
from response_generator.blind_test.sheet import Sheet, draw_sheet

NO_PREFERENCE = ("equally good", "cannot tell")


@pytest.fixture
def sheet() -> Sheet:
    """Twelve pairs, of 30 prompts with two targets in turn."""
    return draw_sheet(compare_rows(made_rows(30, targets=["anger", "fear"])), 12, seed=1)


def answer(sheet: Sheet, first: str, second: str, preferred: str, rater: str = "ann"):
    """A rater's answers, a letter for each pair. first, second: of each model's reply, y: the target, n: another label,
    c: cannot tell, -: no answer. preferred: 1, 2, e: equally good, c: cannot tell, -: no answer."""
    rows = []
    for pair, *letters in zip(sheet.pairs, first, second, preferred, strict=True):
        labels = {"y": pair.place[1], "n": "disgust", "c": "cannot tell", "-": None}
        models = {"1": FIRST, "2": SECOND, "e": "equally good", "c": "cannot tell", "-": None}
        rows.append((labels[letters[0]], labels[letters[1]], models[letters[2]]))
    return answer_pairs(sheet, rows, rater)


def test_one_rater_by_hand(sheet):
    """The first model follows in 5 of 12, the second one in 9: 6 gained and 2 lost. It is preferred in 7, and the first
    one in 2."""
    scores = score(sheet, [answer(sheet, "yyyyynnnncnn", "yyyncyyyyyyn", "222222211eec")])
    first, second, difference = (scores.followed[name] for name in (FIRST, SECOND, "difference"))
    assert (first.rated, first.raters.value, second.raters.value) == (12, 5 / 12, 9 / 12)
    assert (first.raters.low, first.raters.high) == pytest.approx(proportion_confint(5, 12, method="beta"))
    assert difference.raters.value == pytest.approx(4 / 12)
    assert difference.raters.low < 4 / 12 < difference.raters.high
    assert difference.raters.p == pytest.approx(mcnemar([[3, 2], [6, 1]], exact=True).pvalue)
    found = scores.preference
    assert (found.wins, found.losses, found.ties, found.equally_good, found.cannot_tell) == (7, 2, 3, 2, 1)
    assert found.share.value == pytest.approx(7 / 9)
    assert (found.share.low, found.share.high) == pytest.approx(proportion_confint(7, 9, method="beta"))
    assert found.share.p == pytest.approx(binomtest(7, 9).pvalue)
    assert scores.complete == {"ann": 12} and scores.agreement == {}


def test_the_classifier_and_the_corrected_share(sheet):
    """The classifier finds the target in all replies of the second model, and of the first one in those to even rows,
    whose target is anger: half of the prompts, and of the pairs."""
    scores = score(sheet, [answer(sheet, "yyyyynnnncnn", "yyyncyyyyyyn", "222222211eec")])
    second = scores.followed[SECOND]
    assert (second.classifier_rated, second.classifier_all, second.corrected.value) == pytest.approx((1, 1, 9 / 12))
    first = scores.followed[FIRST]
    assert (first.classifier_rated, first.classifier_all, first.corrected.value) == pytest.approx((0.5, 0.5, 5 / 12))
    difference = scores.followed["difference"]
    assert (difference.classifier_all, difference.corrected.value) == pytest.approx((0.5, 4 / 12))
    assert second.corrected.high == 1 and difference.corrected.low < 4 / 12 < difference.corrected.high


def test_the_corrected_share_is_that_of_the_formula_in_a_direct_loop():
    """Two samples, own classes of different size, and some answers left out."""
    rows = made_rows(60, samples=2, targets=["anger"] * 3 + ["fear"])
    random = np.random.default_rng(4)
    for each in rows:
        each["predicted_emotion"] = str(random.choice([each["target_emotion"], "disgust"]))
    sheet = draw_sheet(compare_rows(rows), 20, seed=1)
    letters = "".join(random.choice(list("yync-"), size=20))
    scores = score(sheet, [answer(sheet, "-" * 20, letters, "-" * 20)])
    says = {"y": 1.0, "n": 0.0, "c": 0.0}
    found = lambda row: float(row["predicted_emotion"] == row["target_emotion"])  # noqa: E731
    mine = {(row["index"], row["sample"]): row for row in rows if row["model"] == SECOND}
    rated = [(pair.place, letter) for pair, letter in zip(sheet.pairs, letters, strict=True) if letter != "-"]
    expected = 0
    for target in ("anger", "fear"):
        part = [(place, letter) for place, letter in rated if place[1] == target]
        everything = [found(row) for row in mine.values() if row["target_emotion"] == target]
        gap = [says[letter] - found(mine[place[0], place[2]]) for place, letter in part]
        expected += len(part) / len(rated) * (np.mean(everything) + np.mean(gap))
    figure = scores.followed[SECOND]
    assert scores.followed.keys() == {SECOND}
    assert (figure.rated, figure.corrected.value) == (len(rated), pytest.approx(expected))
    assert figure.raters.value == pytest.approx(np.mean([says[letter] for _, letter in rated]))


def test_of_several_raters_the_pair_is_the_unit(sheet):
    """Pair 1: two of three follow. Pair 2: one of two, the third has not answered. Pair 3: nobody. The others: all."""
    raters = [
        answer(sheet, "y" * 12, "yynyyyyyyyyy", "22e112222221", "ann"),
        answer(sheet, "y" * 12, "ynnyyyyyyyyy", "21e112222221", "ben"),
        answer(sheet, "y" * 12, "c-cyyyyyyyyy", "1-2112222221", "cem"),
    ]
    scores = score(sheet, raters)
    second = scores.followed[SECOND]
    assert (second.rated, second.raters.value) == (12, pytest.approx((2 / 3 + 1 / 2 + 0 + 9) / 12))
    # Pair 1: 2 to 1 for the second model; pair 2: 1 to 1; pair 3: 1 to 0; pairs 4, 5 and 12 are lost.
    found = scores.preference
    assert (found.wins, found.losses, found.ties, found.equally_good) == (8, 3, 1, 2)
    assert found.share.p == pytest.approx(binomtest(8, 11).pvalue)
    assert scores.complete == {"ann": 12, "ben": 12, "cem": 11}


def kappa_of(first: list, second: list) -> float:
    names = sorted({*first, *second})
    return cohens_kappa(
        to_table([[names.index(a), names.index(b)] for a, b in zip(first, second, strict=True)])[0]
    ).kappa


def test_agreement_is_statsmodels(sheet):
    raters = [
        answer(sheet, "yyynnncccyyy", "yyyyyyynnnnn", "1122eecc1122", "ann"),
        answer(sheet, "yynnnnccyyy-", "ynynynynynyn", "1212ecec12--", "ben"),
        answer(sheet, "nnnnnnnnnnnn", "yyyyyyyyyyyy", "111111111111", "cem"),
    ]
    scores = score(sheet, raters)
    for noun, names in (("emotion", ("label_A", "label_B")), ("preference", ("preference",))):
        kappas, same, count = [], [], 0
        for one, other in ((0, 1), (0, 2), (1, 2)):
            both = [
                (mine[name], yours[name])
                for mine, yours in zip(raters[one].answers, raters[other].answers, strict=True)
                for name in names
                if name in mine and name in yours
            ]
            kappas.append(kappa_of(*zip(*both, strict=True)))
            same.append(np.mean([mine == yours for mine, yours in both]))
            count += len(both)
        found = scores.agreement[noun]
        assert (found.kappa, found.same, found.answers) == (
            *(pytest.approx(np.mean(kappas)), pytest.approx(np.mean(same)), count),
        )
    for rater in raters:
        said, predicted = [], []
        for pair, each in zip(sheet.pairs, rater.answers, strict=True):
            for side, model in zip("AB", pair.models, strict=True):
                if f"label_{side}" in each:
                    said.append(each[f"label_{side}"])
                    predicted.append(sheet.replies.rows[model][pair.place]["predicted_emotion"])
        found = scores.with_classifier[rater.rater]
        assert found.kappa == pytest.approx(kappa_of(said, predicted))
        assert found.same == pytest.approx(np.mean(np.array(said) == predicted))


def test_kappa_of_equal_answers_is_not_defined(sheet):
    raters = [answer(sheet, "c" * 12, "c" * 12, "e" * 12, name) for name in ("ann", "ben")]
    scores = score(sheet, raters)
    assert [(found.same, found.kappa) for found in scores.agreement.values()] == [(1, None)] * 2
    assert scores.followed[SECOND].raters.value == 0  # "cannot tell" is not followed
    assert (scores.preference.ties, scores.preference.share) == (12, None)


@pytest.fixture
def written(tmp_path, monkeypatch):
    """A run folder with a sheet of ten pairs."""
    run = write_run(tmp_path / "run", made_rows(28))
    assert run_blind_test(monkeypatch, run, "--pairs", "10") == 0
    return run


def test_the_program_scores_answers(written, tmp_path, monkeypatch, capsys):
    folder = written / "blind_test"
    files = [write_answers(tmp_path / f"{name}.json", folder, name) for name in ("ann", "ben")]
    assert run_blind_test(monkeypatch, written, "--score", *files) == 0
    printed = capsys.readouterr().out
    assert "10 pairs; wholly answered by ann 10, ben 10" in printed
    scores = read_json(folder / "scores.json")
    key = read_json(folder / "key.json")
    is_neutral = [pair["target_emotion"] == "neutral" for pair in key["pairs"]]
    assert scores["followed"][FIRST]["raters"]["value"] == pytest.approx(np.mean(is_neutral))
    wins = sum(pair["A"] == SECOND for pair in key["pairs"])
    assert (scores["preference"]["wins"], scores["preference"]["losses"]) == (wins, 10 - wins)
    text = (folder / "scores.md").read_text(encoding="utf-8")
    for line in (
        "raters' view of all 28 prompts, estimated",
        "preferred in 5 pairs",
        "could be chance",
        "Cohen's kappa",
    ):
        assert line in text and line in printed
    value = f"{100 * np.mean(is_neutral):.1f}"
    assert re.search(rf"\| in the view of raters \(10 rated\) \| {value} \[", text)


def test_on_a_narrow_terminal_no_interval_is_broken(sheet):
    scores = score(sheet, [answer(sheet, "yyyyynnnncnn", "yyyncyyyyyyn", "222222211eec")])
    shown = io.StringIO()
    Console(width=50, file=shown).print(build_table(scores))
    found = [estimate for each in scores.followed.values() for estimate in (each.raters, each.corrected)]
    assert len(found) == 6
    for estimate in found:
        assert f"[{100 * estimate.low:.1f}, {100 * estimate.high:.1f}]" in shown.getvalue()


def test_incomplete_answers_are_counted_and_said(written, tmp_path, monkeypatch, capsys):
    given = [{"label_A": "fear", "label_B": "cannot tell", "preference": "B"}, {"label_A": "fear"}, {}]
    file = write_answers(tmp_path / "a.json", written / "blind_test", answers=[*given, *[{}] * 7])
    assert run_blind_test(monkeypatch, written, "--score", file) == 0
    assert "ann has left out answers in 9 of 10 pairs" in capsys.readouterr().out
    scores = read_json(written / "blind_test" / "scores.json")
    assert scores["complete"] == {"ann": 1}
    assert scores["followed"][FIRST]["rated"] + scores["followed"][SECOND]["rated"] == 3
    assert scores["followed"]["difference"]["rated"] == 1


def test_a_run_without_labels_has_preferences_alone(tmp_path, monkeypatch, capsys):
    run = write_run(tmp_path / "run", to_plain_rows(made_rows()), labels=[], scoring={})
    assert run_blind_test(monkeypatch, run) == 0
    file = write_answers(tmp_path / "a.json", run / "blind_test", answers=[{"preference": "equally good"}] * 21)
    assert run_blind_test(monkeypatch, run, "--score", file) == 0
    printed = capsys.readouterr().out
    assert 'neither in 21 (answers "equally good": 21, "cannot tell": 0)' in printed and "target" not in printed
    scores = read_json(run / "blind_test" / "scores.json")
    assert scores["followed"] == {} == scores["with_classifier"]


def test_without_a_classifier_there_is_no_corrected_share(tmp_path, monkeypatch):
    rows = [
        {name: value for name, value in row.items() if "emotion" not in name or name == "target_emotion"}
        for row in made_rows()
    ]
    run = write_run(tmp_path / "run", rows, scoring={})
    assert run_blind_test(monkeypatch, run) == 0
    file = write_answers(tmp_path / "a.json", run / "blind_test")
    assert run_blind_test(monkeypatch, run, "--score", file) == 0
    assert "classifier" not in (run / "blind_test" / "scores.md").read_text(encoding="utf-8")
    assert read_json(run / "blind_test" / "scores.json")["followed"][SECOND].keys() == {"rated", "raters"}


BAD_ANSWERS = {
    "of another sheet": ({"sheet": "0123"}, "sheet is '0123'; needed: "),
    "without a rater": ({"rater": " "}, "rater is ' '; needed: a name"),
    "too few": ({"answers": [{}]}, "has not one entry for each of the 10 pairs"),
    "no objects": ({"answers": ["A"] * 10}, "answers, pair 1: is 'A'; needed: an object of answers"),
    "another question": ({"answers": [{"label_C": "fear"}] * 10}, "pair 1: 'label_C' is no question; allowed: label_A"),
    "another label": ({"answers": [{"label_A": "joy"}] * 10}, "label_A is 'joy'; allowed: neutral, anger"),
    "a list": ({"answers": [{"label_A": ["fear"]}] * 10}, "label_A is ['fear']; allowed: neutral"),
    "none": ({"answers": [{}] * 10}, "holds no answers; answer the page first"),
}


@pytest.mark.parametrize("case", BAD_ANSWERS)
def test_answers_that_do_not_fit_are_refused(case, written, tmp_path, monkeypatch, capsys):
    changes, words = BAD_ANSWERS[case]
    good = write_answers(tmp_path / "good.json", written / "blind_test", "ben")
    file = write_answers(tmp_path / "bad.json", written / "blind_test", **changes)
    assert run_blind_test(monkeypatch, written, "--score", good, file) == 2
    printed = capsys.readouterr().err
    assert printed.startswith(f"error: {file}: ") and words in printed
    assert not (written / "blind_test" / "scores.json").exists()


def test_damaged_files_and_raters_named_twice_are_all_reported(written, tmp_path, monkeypatch, capsys):
    one = write_answers(tmp_path / "one.json", written / "blind_test", "Ann")
    two = write_answers(tmp_path / "two.json", written / "blind_test", " ann")
    cut = tmp_path / "cut.json"
    cut.write_text(one.read_text(encoding="utf-8")[:-20], encoding="utf-8")
    assert run_blind_test(monkeypatch, written, "--score", one, two, cut, tmp_path / "none.json") == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == f"error: {two}: rater is 'ann', as in {one}; name one file of each rater"
    assert lines[1].startswith(f"error: {cut}: broken JSON") and "none.json: cannot be read" in lines[2]


def change_replies(run):
    rows = read_lines(run / "predictions.jsonl")
    write_rows(run / "predictions.jsonl", [row | {"response": row["response"] + "!"} for row in rows])


def change_key(run, **changes):
    file = run / "blind_test" / "key.json"
    file.write_text(json.dumps(read_json(file) | changes), encoding="utf-8")


CHANGED = {
    "other replies": (change_replies, "belongs to other replies than those of the run now"),
    "swapped sides": (
        lambda run: change_key(
            run,
            pairs=[
                each | {"A": each["B"], "B": each["A"]} for each in read_json(run / "blind_test" / "key.json")["pairs"]
            ],
        ),
        "belongs to other replies",
    ),
    "rows that are not there": (lambda run: change_key(run, pairs=[{"index": 1}]), "belongs to other replies"),
    "a model that is not there": (lambda run: change_key(run, models=["a", "b"]), "key.json: models: got a, b; "),
    "no models": (lambda run: change_key(run, models=5), "is not the key of a sheet, or damaged"),
    "models without names": (lambda run: change_key(run, models=[1, 2]), "is not the key of a sheet, or damaged"),
    "no key": (
        lambda run: (run / "blind_test" / "key.json").unlink(),
        "holds no key.json; name the folder of the sheet",
    ),
    "half a key": (
        lambda run: (run / "blind_test" / "key.json").write_text('{"seed": 1}', encoding="utf-8"),
        "is not the key of a sheet, or damaged",
    ),
}


@pytest.mark.parametrize("case", CHANGED)
def test_a_key_that_does_not_fit_the_run_is_refused(case, written, tmp_path, monkeypatch, capsys):
    change, words = CHANGED[case]
    file = write_answers(tmp_path / "a.json", written / "blind_test")
    change(written)
    assert run_blind_test(monkeypatch, written, "--score", file) == 2
    assert words in capsys.readouterr().err
