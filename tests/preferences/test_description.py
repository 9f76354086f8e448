"""The description of preference data, against numpy and against data with known answers."""

from dataclasses import replace

import numpy as np
import pytest
from pairs import make_pair
from tiny_models import EMOTION_LABELS

from response_generator.data.datasets import Pair
from response_generator.errors import InputError
from response_generator.labels import Labels
from response_generator.preferences.description import check_scores, describe_pairs
from response_generator.preferences.description_table import build_rows

RNG = np.random.default_rng(0)
CHOSEN, REJECTED = RNG.normal(20, 5, 200), RNG.normal(4, 2, 200)
SCORED = [
    make_pair(index, chosen_score=float(chosen), rejected_score=float(rejected))
    for index, (chosen, rejected) in enumerate(zip(CHOSEN, REJECTED, strict=True))
]


def test_margins_equal_numpy():
    metrics, margins = describe_pairs(SCORED, [], EMOTION_LABELS), CHOSEN - REJECTED
    assert metrics["margin/median"] == pytest.approx(np.median(margins))
    assert metrics["margin/mean"] == pytest.approx(np.mean(margins))
    assert metrics["margin/sd"] == pytest.approx(np.std(margins))
    assert metrics["margin/p95"] == pytest.approx(np.percentile(margins, 95))
    assert metrics["margin/share_not_positive"] == pytest.approx(np.mean(margins <= 0))
    assert metrics["chosen_score/mean"] == pytest.approx(np.mean(CHOSEN))
    assert metrics["rejected_score/min"] == pytest.approx(np.min(REJECTED))


def test_counts_of_known_pairs():
    pairs = [
        make_pair(0, "Fine .", "No", chosen_score=5.0, rejected_score=1.0),  # chosen longer by 4, margin 4
        make_pair(0, "Fine .", "No", chosen_score=5.0, rejected_score=1.0),  # an exact duplicate
        make_pair(1, "Well", "Not at all .", chosen_score=3.0, rejected_score=3.0),  # shorter by 8, margin 0
        make_pair(2, "Same .", "Same .", chosen_score=2.0, rejected_score=3.0),  # margin -1
    ]
    metrics = describe_pairs(pairs, ["[INST]"], EMOTION_LABELS)
    assert (metrics["pairs"], metrics["prompts"]) == (4, 3)
    assert metrics["margin/share_not_positive"] == 0.5
    assert (metrics["chosen_cut_off"], metrics["rejected_cut_off"]) == (0.25, 0.5)
    assert metrics["chosen_longer"] == (2 + 0.5) / 4
    assert metrics["margin_length_correlation"] == pytest.approx(np.corrcoef([4, 4, 0, -1], [4, 4, -8, 0])[0, 1])
    assert (metrics["exact_duplicates"], metrics["near_duplicates"], metrics["same_replies"]) == (1, 0, 1)
    assert metrics["target/happiness"] == 4
    assert metrics["chosen_characters/max"] == 6
    assert not any(name.startswith("missing_marker") for name in metrics)  # the template writes them
    assert ("exact duplicates of an earlier pair", "1") in build_rows(metrics)


def test_the_fit_of_pairs_that_were_built_with_it():
    fits = [(0.5, -0.25), (1.0, 0.25), (None, None)]
    pairs = [make_pair(place, chosen_fit=one, rejected_fit=other) for place, (one, other) in enumerate(fits)]
    metrics = describe_pairs(pairs, [], EMOTION_LABELS)
    assert (metrics["chosen_fit/mean"], metrics["rejected_fit/mean"]) == (0.75, 0.0)
    rows = dict(build_rows(metrics))
    assert rows["fit of chosen to the dialogue (nats a token)"].startswith("median 0.750, mean 0.750, sd 0.250")
    assert not any("fit" in name for name in describe_pairs(pairs[2:], [], EMOTION_LABELS))


def ask_for(target: str, pair: Pair) -> Pair:
    return replace(pair, chosen=pair.chosen | {"emotion": target}, rejected=pair.rejected | {"emotion": target})


def test_what_the_pairs_also_teach():
    names, shows = "I am so happy !", "Great news !"
    even = [make_pair(0, names, "Fine then , thanks ."), make_pair(1, "Fine then , thanks .", names)]
    metrics = describe_pairs(even, [], EMOTION_LABELS)
    assert (metrics["chosen_longer"], metrics["chosen_names_emotion"], metrics["rejected_names_emotion"]) == (0.5,) * 3
    assert not any(title == "warning" for title, _ in build_rows(metrics))

    naming = [make_pair(0, names, shows), make_pair(1, names, "So many good news today !")]  # longer and shorter
    naming.append(ask_for("neutral", make_pair(2, "Neutral !", "Neutral .")))  # its target has no such words
    metrics = describe_pairs(naming, [], EMOTION_LABELS)
    assert (metrics["chosen_names_emotion"], metrics["rejected_names_emotion"]) == (1.0, 0.0)
    (warning,) = (text for title, text in build_rows(metrics) if title == "warning")
    assert (
        "name their emotion more often than rejected ones (in 100% and 0% of the pairs)" in warning
        and "reward.naming_penalty" in warning
    )

    avoiding = [make_pair(0, shows, names), make_pair(1, "So many good news today !", names)]
    (warning,) = (
        text for title, text in build_rows(describe_pairs(avoiding, [], EMOTION_LABELS)) if title == "warning"
    )
    assert "rejected replies name their emotion in 100% of the pairs, chosen ones in 0%" in warning

    lengths = [make_pair(0, "No , never .", "No"), make_pair(1, "Well , no .", "No"), make_pair(2, "No", "Well , no .")]
    (warning,) = (text for title, text in build_rows(describe_pairs(lengths, [], EMOTION_LABELS)) if title == "warning")
    assert "the longer one in 67% of the pairs" in warning and "filters.max_length_difference" in warning
    turned = [make_pair(0, "No", "Yes , well ."), make_pair(1, "No", "Yes , well .")]
    (warning,) = (text for title, text in build_rows(describe_pairs(turned, [], EMOTION_LABELS)) if title == "warning")
    assert "the shorter one in 100% of the pairs" in warning


def test_text_prompts_as_published():
    prompt = "   neutral   Good morning, sir. …?     neutral   There is one.…?  \n    neutral   RIB.     neutral   "
    marked = "[INST] [EMOTION] fear [/EMOTION] Who is there ? [/INST] [EMOTION] anger [/EMOTION] "
    pairs = [
        make_pair(0, prompt=prompt, chosen=" Yes, sir.</s>", rejected="no", chosen_score=None, rejected_score=None),
        make_pair(1, prompt=marked, chosen="It is me !", rejected="no", chosen_score=None, rejected_score=None),
        make_pair(2, prompt="Hello there .", chosen="Hi .", rejected="no", chosen_score=None, rejected_score=None),
    ]
    metrics = describe_pairs(pairs, ["[INST]", "[EMOTION]"], EMOTION_LABELS)
    assert (metrics["target/neutral"], metrics["target/anger"], metrics["target/unknown"]) == (1, 1, 1)
    assert (metrics["missing_marker/[INST]"], metrics["missing_marker/[EMOTION]"]) == (2, 2)
    assert metrics["chosen_cut_off"] == 0  # </s> is not part of the words
    assert "margin/mean" not in metrics
    assert ("prompts without [INST]", "2") in build_rows(metrics)


@pytest.mark.parametrize(
    ("labels", "targets"),
    [
        (Labels(("polite", "rude"), None), [("targets", "polite 1, rude 2")]),
        (Labels((), None), []),
    ],
)
def test_targets_are_the_labels_of_the_run(labels, targets):
    pairs = [make_pair(index) for index in range(3)]
    for pair, name in zip(pairs, ("rude", "polite", "rude"), strict=True):
        for side in (pair.chosen, pair.rejected):
            side["emotion"] = name
    if not labels:
        pairs = [make_pair(index, prompt="Hello .", chosen="Hi .", rejected="no") for index in range(3)]
    rows = build_rows(describe_pairs(pairs, [], labels))
    assert [row for row in rows if row[0] == "targets"] == targets


def test_pairs_without_scores_count_where_no_score_is_needed():
    pairs = [make_pair(0), make_pair(1, rejected_score=4.0), make_pair(2, "Hi", rejected_score=None)]
    metrics = describe_pairs(pairs, [], EMOTION_LABELS)
    assert (metrics["pairs"], metrics["margin/mean"], metrics["chosen_cut_off"]) == (3, 7.0, pytest.approx(1 / 3))
    with pytest.raises(InputError, match="row 2: has no chosen_score and rejected_score, as other rows have"):
        check_scores(pairs)
