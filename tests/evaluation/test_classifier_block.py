"""How good the emotion classifier is, in the report."""

import json

import pytest
from scipy.stats import binomtest
from sklearn.metrics import balanced_accuracy_score
from test_metrics import LABELS, row
from tiny_models import EMOTION_LABELS

from response_generator.errors import InputError
from response_generator.evaluation.comparison import compare_models
from response_generator.evaluation.reporting.classifier_block import build_classifier_section
from response_generator.scoring.quality import read_quality

GOLD = "gold replies of this run"


def compare_gold(found: dict[str, list[str]]):
    """One model; the classifier finds these emotions in gold replies by their target."""
    pairs = [(target, emotion) for target, emotions in found.items() for emotion in emotions]
    rows = [row(index, target, "anger", gold_emotion=emotion) for index, (target, emotion) in enumerate(pairs)]
    expected = balanced_accuracy_score(*zip(*pairs, strict=True))
    return compare_models({"adapter": rows}, EMOTION_LABELS, LABELS, 200, seed=1), expected


def read_table(section) -> tuple[list[str], dict[str, list[str]]]:
    table = section.blocks[1]
    return table.header, {title: cells for rows in table.groups.values() for title, *cells in rows}


FOUND = {"anger": ["anger"] * 15 + ["fear"] * 5, "fear": ["fear"] * 10 + ["anger"] * 30}


def test_without_a_file_it_says_so_and_has_the_gold_replies_alone():
    found, mean_recall = compare_gold(FOUND)
    assert found.estimates["gold"]["emotion_recall_macro"].value == pytest.approx(mean_recall) == 0.5
    section = build_classifier_section(found, None)
    assert section.title == "The emotion classifier"
    assert "Nobody has written down how good it is" in section.blocks[0].text
    header, rows = read_table(section)
    assert header == ["", GOLD]
    assert rows["mean recall"][0].startswith("50.0 [") and rows["calibration error"] == ["–"]
    interval = binomtest(15, 20).proportion_ci(method="exact")
    assert rows["anger"] == [f"75.0 [{interval.low * 100:.1f}, {interval.high * 100:.1f}] / 33.3"]  # 15 of 45
    assert rows["sadness"] == ["– / –"]


def test_each_data_set_of_the_file_is_a_column(tmp_path):
    """Its classifier knows love, which the run does not, and six of the run's emotions it does not know."""
    measured = {"calibration_error": 0.04, "macro_recall": [0.7, 0.6, 0.8], "macro_f1": [0.65, 0.55, 0.75]}
    other = measured | {"confusion": [[0, 0], [2, 8]], "accuracy": [0.8, 0.5, 0.9]}
    values = {
        "labels": ["anger", "love"],
        "data_sets": {"MELD": measured | {"confusion": [[8, 2], [4, 6]], "accuracy": [0.7, 0.5, 0.8]}, "Go": other},
    }
    (tmp_path / "quality.json").write_text(json.dumps(values), encoding="utf-8")
    section = build_classifier_section(compare_gold(FOUND)[0], read_quality(str(tmp_path)))
    assert "Nobody" not in section.blocks[0].text
    header, rows = read_table(section)
    assert header == ["", "MELD", "Go", GOLD]
    assert rows["mean recall"][:2] == ["70.0 [60.0, 80.0]"] * 2 and rows["calibration error"] == ["4.0", "4.0", "–"]
    interval = binomtest(8, 10).proportion_ci(method="exact")
    bounds = f"[{interval.low * 100:.1f}, {interval.high * 100:.1f}]"
    assert rows["anger"][:2] == [f"80.0 {bounds} / 66.7", "– / 0.0"]  # 8 of 12; no text has it, two are called so
    assert rows["love"][1:] == [f"80.0 {bounds} / 100.0", "–"]
    assert rows["fear"][:2] == ["–", "–"]


def test_a_damaged_file_is_named(tmp_path):
    assert read_quality(str(tmp_path)) is None
    (tmp_path / "quality.json").write_text('{"labels": ["anger"]}', encoding="utf-8")
    with pytest.raises(InputError, match="quality.json"):
        read_quality(str(tmp_path))
