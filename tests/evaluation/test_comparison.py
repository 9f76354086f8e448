"""Intervals and differences of a whole evaluation."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.proportion import proportion_confint
from test_metrics import LABELS, row
from tiny_models import EMOTION_LABELS

from response_generator.evaluation.comparison import Comparison, compare_models
from response_generator.evaluation.reporting import plots, report, table, terminal_table
from response_generator.evaluation.reporting.conclusions import draw_conclusions
from response_generator.evaluation.statistics import intervals

RESAMPLES = 4_000


def rows_of(right: list[bool], **changes) -> list[dict]:
    return [
        row(index, "anger", "anger" if is_right else "fear", gold_emotion="anger", **changes)
        for index, is_right in enumerate(right)
    ]


def evaluated(baseline: list[bool], adapter: list[bool], **changes):
    rows = {"baseline": rows_of(baseline), "adapter": rows_of(adapter)}
    return compare_models(rows, EMOTION_LABELS, LABELS, RESAMPLES, seed=1, **changes)


# 60 prompts: both right in 20, the adapter alone in 25, the baseline alone in 8, none in 7.
BASELINE = [True] * 20 + [False] * 25 + [True] * 8 + [False] * 7
ADAPTER = [True] * 20 + [True] * 25 + [False] * 8 + [False] * 7


def test_a_difference_is_paired_as_scipy_and_statsmodels_pair_it():
    found = evaluated(BASELINE, ADAPTER).differences["adapter"]["emotion_accuracy"]
    assert found.value == pytest.approx((25 - 8) / 60)
    gained = np.array(ADAPTER, float) - np.array(BASELINE, float)
    expected = stats.bootstrap(
        (gained,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.02)
    assert found.p == pytest.approx(mcnemar([[20, 25], [8, 7]], exact=True).pvalue)


def test_pairing_makes_the_interval_narrower_than_two_independent_ones():
    baseline = [True] * 120 + [False] * 120
    adapter = [True] * 132 + [False] * 108  # right wherever the baseline is, and twelve times more
    found = evaluated(baseline, adapter)
    difference = found.differences["adapter"]["emotion_accuracy"]
    alone = found.estimates["adapter"]["emotion_accuracy"]
    assert difference.high - difference.low < 0.6 * (alone.high - alone.low)
    assert 0 < difference.low


def test_replies_of_one_prompt_are_no_prompts_of_their_own():
    """Four times the same reply to each of 15 prompts says no more than one: the interval is as wide."""
    right = [True] * 9 + [False] * 6
    once = compare_models({"adapter": rows_of(right)}, EMOTION_LABELS, LABELS, RESAMPLES, seed=1)
    four = [each | {"sample": sample} for each in rows_of(right) for sample in range(4)]
    often = compare_models({"adapter": four}, EMOTION_LABELS, LABELS, RESAMPLES, seed=1)
    assert (often.prompts, often.samples) == (15, 4)
    assert (often.num_prompts_with_target("anger"), often.num_prompts_with_target("fear")) == (15, 0)
    assert often.estimates["adapter"]["emotion_accuracy"] == once.estimates["adapter"]["emotion_accuracy"]


def test_where_all_prompts_agree_the_bounds_are_exact():
    found = evaluated([True] * 30, [True] * 30)
    complete = found.estimates["adapter"]["ends_with_punctuation"]
    assert (complete.value, complete.high) == (1, 1)
    assert complete.low == pytest.approx(0.025 ** (1 / 30))
    tie = found.differences["adapter"]["emotion_accuracy"]
    assert (tie.low, tie.high, tie.p) == (pytest.approx(-0.1157, abs=1e-4), pytest.approx(0.1157, abs=1e-4), 1.0)


def test_every_rate_and_mean_has_an_interval_around_it():
    rows = {"baseline": rows_of(BASELINE), "adapter": rows_of(ADAPTER)}
    for number, each in enumerate([*rows["baseline"], *rows["adapter"]]):
        each["gold_emotion"] = "fear" if number % 7 == 0 else "anger"
        each |= {"new_tokens": 10 + number % 7, "gold_tokens": 5 + number % 3, "gold_logp": -10.0 - number % 7}
        each["target_probability"] = number % 11 / 10
    found = compare_models(rows, EMOTION_LABELS, LABELS, RESAMPLES, seed=1, margins=np.tile([0.5, -0.2, 1.0, 0.1], 8))
    groups = [*found.estimates.values(), found.differences["adapter"]]
    for estimates in groups:
        for name, estimate in estimates.items():
            if name.endswith(("/f1", "/precision")) and (estimate.value in (0, 1) or "/fear/" in name):
                continue  # all prompts have the same value, or are few
            assert estimate.low is not None and estimate.low <= estimate.value <= estimate.high, name
    assert found.preference["reward_accuracy"].value == 3 / 4
    assert found.preference["margin_mean"].value == pytest.approx(0.35)
    assert found.preference["margin_mean"].low < 0.35 < found.preference["margin_mean"].high


def test_few_prompts_that_agree_prove_little():
    found = evaluated([False] * 3, [True] * 3)
    assert found.estimates["adapter"]["mean_new_tokens"].low is None  # all alike: nothing is known of their spread
    assert found.estimates["adapter"]["emotion_f1_macro"].low is None
    gained = found.differences["adapter"]["emotion_accuracy"]
    assert (gained.value, gained.high, gained.p) == (1, 1, 0.25)
    assert gained.low == pytest.approx(2 * 0.025 ** (1 / 3) - 1)  # -0.42
    assert "could be noise" in draw_conclusions(found)[0]
    assert "could be noise" in draw_conclusions(evaluated([True], [False]))[0]


def compare_with_few(emotion: str, few: int) -> Comparison:
    """60 neutral prompts and a few of another emotion, of which the adapter follows all but one, the baseline none;
    neither model says it of a neutral prompt."""
    rows = {}
    for model in ("baseline", "adapter"):
        rows[model] = [row(index, "neutral", "neutral" if index % 4 else "anger") for index in range(60)]
        rows[model] += [
            row(60 + number, emotion, emotion if model == "adapter" and number else "neutral") for number in range(few)
        ]
    return compare_models(rows, EMOTION_LABELS, LABELS, RESAMPLES, seed=1, margins=np.linspace(-1, 1, few))


def test_with_few_prompts_a_share_is_exact_and_what_has_no_such_interval_has_none():
    found = compare_with_few("fear", 4)
    exact = stats.binomtest(3, 4).proportion_ci(method="exact")
    adapter = found.estimates["adapter"]
    recall = adapter["emotion/fear/recall"]
    assert (recall.low, recall.high) == pytest.approx((exact.low, exact.high))
    assert adapter["emotion/fear/precision"].low == pytest.approx(0.025 ** (1 / 3))  # three predictions, all right
    assert (adapter["emotion/fear/f1"].value, adapter["emotion/fear/f1"].low) == (pytest.approx(6 / 7), None)
    assert adapter["non_neutral_f1_macro"].low is None
    assert adapter["emotion/neutral/f1"].low is not None and adapter["emotion_f1_macro"].low is not None
    gained = found.differences["adapter"]["emotion/fear/recall"]
    assert (gained.low, gained.high) == intervals.score_difference_interval(np.array([0, 1, 1, 1]))
    assert found.differences["adapter"]["emotion/neutral/precision"].low is None  # only four predictions differ
    margins = found.preference
    assert (margins["reward_accuracy"].low, margins["margin_mean"].low) == (pytest.approx(0.0676, abs=1e-4), None)
    assert compare_with_few("fear", 29).estimates["adapter"]["emotion/fear/f1"].low is None
    enough = compare_with_few("fear", 30)
    assert enough.estimates["adapter"]["emotion/fear/f1"].low is not None
    assert enough.differences["adapter"]["emotion/neutral/precision"].low is not None
    assert enough.preference["margin_mean"].low is not None


def test_in_a_small_evaluation_only_shares_and_their_differences_have_intervals():
    found = evaluated([True, False, False, True, False] * 4, [True] * 20)
    shares = {name for name in found.estimates["adapter"] if found.metrics[name].is_proportion}
    for estimates, exceptions in (
        (found.estimates["adapter"], set()),
        (found.differences["adapter"], {"emotion/anger/precision"}),
    ):
        with_interval = {name for name, estimate in estimates.items() if estimate.low is not None}
        assert with_interval == shares - exceptions
    gained = found.differences["adapter"]["emotion_accuracy"]
    assert (gained.low, gained.high) == intervals.score_difference_interval(np.array([0, 1, 1, 0, 1] * 4))
    assert draw_conclusions(found)[0].startswith("The adapter follows the target emotion more often than the baseline")


def test_where_few_prompts_differ_a_share_has_the_score_interval():
    """One reply of 126 is no longer clean. No resample of the prompts can be better than that."""
    rows = {"baseline": rows_of([True] * 126), "adapter": rows_of([True] * 126)}
    rows["adapter"][5]["gibberish_label"] = "noise"
    lost = compare_models(rows, EMOTION_LABELS, LABELS, RESAMPLES, seed=1).differences["adapter"]["gibberish/clean"]
    differences = np.array([-1.0] + [0.0] * 125)
    assert (lost.low, lost.high) == intervals.score_difference_interval(differences)
    assert lost.low < lost.value < 0 < lost.high
    for differing, is_score in ((9, True), (10, False)):
        found = evaluated([True] * 60, [False] * differing + [True] * (60 - differing)).differences["adapter"]
        score = intervals.score_difference_interval(np.array([-1.0] * differing + [0.0] * (60 - differing)))
        accuracy = found["emotion_accuracy"]
        assert ((accuracy.low, accuracy.high) == score) == is_score
        # F1 has no such interval, and a bootstrap of nine lost prompts would never hold a gain.
        assert (found["emotion_f1_weighted"].low is None) == is_score


def test_where_few_prompts_differ_their_samples_count_as_shares():
    rows = {
        model: [row(n, sample=sample) for n in range(60) for sample in range(4)] for model in ("baseline", "adapter")
    }
    for number in (0, 4, 8, 9):  # one reply to the first two prompts, two to the third
        rows["adapter"][number]["predicted_emotion"] = "fear"
    found = compare_models(rows, EMOTION_LABELS, LABELS, RESAMPLES, seed=1).differences["adapter"]["emotion_accuracy"]
    expected = intervals.score_difference_interval(np.array([-0.25, -0.25, -0.5] + [0.0] * 57))
    assert (found.low, found.high) == pytest.approx(expected)
    assert found.high > 0


def test_differences_from_the_gold_replies_are_paired():
    """Gold replies and adapter are right in 40 of 80 prompts together, in 24 only the gold replies are."""
    rows = rows_of([True] * 40 + [False] * 40)
    for each in rows[64:]:
        each["gold_emotion"] = "fear"
    found = compare_models({"adapter": rows}, EMOTION_LABELS, LABELS, RESAMPLES, seed=1)
    difference = found.gold_differences["adapter"]["emotion_accuracy"]
    lost = np.array([0.0] * 40 + [-1.0] * 24 + [0.0] * 16)
    expected = stats.bootstrap(
        (lost,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    assert difference.value == pytest.approx(-24 / 80)
    assert (difference.low, difference.high) == pytest.approx((expected.low, expected.high), abs=0.02)
    assert difference.p is None
    assert found.flatten()["difference of adapter from gold/emotion_accuracy"] == difference.value
    assert "gold_perplexity" not in found.gold_differences["adapter"]
    gold = table.build_gold_table(found)
    cells = {title: cell for rows in gold.groups.values() for title, cell in rows}
    assert cells["target emotion followed"].startswith("-30.0 [")
    assert gold.header == ["", "adapter − gold replies"]
    assert "gold replies to the same prompts: adapter -30.0 points, 95 % CI [" in draw_conclusions(found)[-1]


IN_TOKENS = {"mean_new_tokens", "length_ratio", "mean_gold_length_ratio", "gold_perplexity"}


def test_where_tokenizers_differ_nothing_is_counted_in_tokens():
    rows = {"a": rows_of(BASELINE), "b": rows_of(ADAPTER)}
    alike = compare_models(rows, EMOTION_LABELS, LABELS, 200, seed=1)
    assert set(alike.estimates["a"]) >= IN_TOKENS and not any("left out" in said for said in draw_conclusions(alike))
    rows["b"][7]["gold_tokens"] += 1
    found = compare_models(rows, EMOTION_LABELS, LABELS, 200, seed=1)
    for group in (*found.estimates.values(), *found.differences.values(), *found.gold_differences.values()):
        assert not IN_TOKENS & set(group)
    assert set(found.estimates["a"]) == set(alike.estimates["a"]) - IN_TOKENS
    assert any("Numbers of tokens and perplexity are left out: " in said for said in draw_conclusions(found))
    lengths = [plots.plot_lengths(each).axes[0].get_xlabel() for each in (alike, found)]
    assert lengths == ["tokens, including EOS", "characters"]


def test_several_replies_to_few_prompts_count_as_their_share():
    rows = [row(index, "anger", "anger" if sample < 2 else "fear", sample) for index in range(5) for sample in range(4)]
    found = compare_models({"adapter": rows}, EMOTION_LABELS, LABELS, 200, seed=1)
    accuracy = found.estimates["adapter"]["emotion_accuracy"]
    assert (accuracy.low, accuracy.high) == pytest.approx(proportion_confint(2.5, 5, method="beta"))


def test_what_nobody_asks_for_has_no_figure():
    found = evaluated(BASELINE, ADAPTER)
    assert "emotion/sadness/recall" not in found.estimates["adapter"]  # no such target
    assert "emotion/sadness/precision" not in found.estimates["adapter"]  # never read
    assert found.flatten()["adapter/emotion/sadness/support"] == 0
    assert "emotion/sadness/recall" not in found.differences["adapter"]


def test_a_model_that_is_called_like_the_gold_replies_is_refused_by_its_name():
    from response_generator.evaluation.finished_runs import parse_model

    assert [parse_model(name).name for name in ("gold", "runs/gold", "gold=a,b")] == [None, None, "./gold"]


def test_odd_names_of_runs_are_shown_as_they_are(tmp_path, capsys):
    rows = {"runs/[a]x$\\frac$": rows_of(BASELINE), "_b|c": rows_of(ADAPTER)}
    found = compare_models(rows, EMOTION_LABELS, LABELS, 200, seed=1)
    terminal_table.show_table(found, {})
    assert "runs/[a]x$\\frac$" in capsys.readouterr().out
    report.write_report(found, "title", {}, {}, tmp_path)
    assert "| \\_b\\|c |" in (tmp_path / "summary.md").read_text(encoding="utf-8")


def test_the_table_has_a_cell_for_everything():
    found = evaluated(BASELINE, ADAPTER)
    whole = table.build_table(found)
    assert whole.header == ["", "baseline", "adapter", "difference", "gold replies"]
    rows = {(section, title): cells for section, lines in whole.groups.items() for title, *cells in lines}
    assert {len(cells) for cells in rows.values()} == {4}
    followed = rows["emotion", "target emotion followed"]
    assert followed[0].startswith("46.7 [")
    assert followed[2].startswith("+28.3 [") and followed[2].endswith("p 0.0046")
    assert rows["recall, by target emotion", "anger (n = 60)"][1].startswith("75.0 [")
    assert rows["F1, by emotion", "anger (n = 60)"][1].startswith("85.7 [")  # precision 1, recall 3/4
    assert not any("-0.0 " in cell or cell.startswith("-0.00 ") for cells in rows.values() for cell in cells)


def test_metrics_are_flat_names_and_numbers():
    flat = evaluated(BASELINE, ADAPTER, margins=np.array([0.5, -0.2])).flatten()
    assert flat["adapter/emotion_accuracy"] == 0.75
    assert flat["difference/emotion_accuracy/p"] == pytest.approx(0.0046, abs=1e-4)
    assert flat["adapter/confusion/anger/fear"] == 15
    assert flat["preference/pairs"] == 2
    assert all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in flat.values())
    three = compare_models(
        {"a": rows_of([True]), "b": rows_of([True]), "c": rows_of([True])}, EMOTION_LABELS, LABELS, 100, seed=1
    ).flatten()
    assert {"difference of b/ends_with_punctuation", "difference of c/ends_with_punctuation"} <= set(three)
