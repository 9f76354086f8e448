"""Evaluations in which each dialogue is asked for all labels: what is counted, compared, and taken for such a file."""

import json

import numpy as np
import pytest
from conftest import write_rows
from test_metrics import LABELS, row
from tiny_models import EMOTION_LABELS

from response_generator.errors import InputError
from response_generator.evaluation import columns, finished_runs, predictions_file
from response_generator.evaluation.comparison import Comparison, compare_models
from response_generator.evaluation.predictions_file import GENERATED_FIELDS, group_by_model, has_gold_target
from response_generator.evaluation.reporting import report, table
from response_generator.evaluation.reporting.conclusions import draw_conclusions
from response_generator.evaluation.scores import gold_as_predictions
from response_generator.evaluation.statistics.distinct import Text
from response_generator.evaluation.statistics.intervals import clopper_pearson_interval

EMOTIONS = EMOTION_LABELS.names
DIALOGUES, SAMPLES = 42, 2


def make_rows(seed: int) -> list[dict]:
    """Two samples for each of the seven targets of 42 dialogues; lengths, texts and predictions are drawn."""
    random = np.random.default_rng(seed)
    words = "I am glad sad that this is so , yes no why not ! ?".split()
    rows = []
    for index in range(DIALOGUES):
        gold_target = EMOTIONS[index % 7]
        for target in EMOTIONS:
            for sample in range(SAMPLES):
                tokens = int(random.integers(3, 9))
                rows.append(
                    row(
                        index,
                        target,
                        target if random.random() < 0.3 + 0.1 * seed else str(random.choice(EMOTIONS)),
                        sample,
                        gold_target=gold_target,
                        gold_emotion=gold_target if index % 3 else "neutral",
                        gold_logp=-10.0 - index if target == gold_target else -500.0,
                        gold_tokens=5 + index % 4,
                        new_tokens=tokens,
                        response=" ".join(random.choice(words, tokens)),
                    )
                )
    return rows


ROWS = {"baseline": make_rows(1), "adapter": make_rows(3)}
OF_GOLD_TARGETS = {model: [each for each in rows if has_gold_target(each)] for model, rows in ROWS.items()}


def compare(rows: dict[str, list[dict]]) -> Comparison:
    return compare_models(rows, EMOTION_LABELS, LABELS, 300, seed=1)


@pytest.fixture(scope="module")
def found() -> Comparison:
    return compare(ROWS)


@pytest.fixture(scope="module")
def of_gold_targets() -> Comparison:
    return compare(OF_GOLD_TARGETS)


def test_dialogues_are_the_prompts_and_all_replies_count(found, of_gold_targets):
    assert (found.prompts, found.targets, found.samples, found.replies) == (42, 7, 2, 588)
    assert (of_gold_targets.targets, of_gold_targets.samples, of_gold_targets.replies) == (1, 2, 84)
    for model, rows in ROWS.items():
        followed = [each["target_emotion"] == each["predicted_emotion"] for each in rows]
        assert found.estimates[model]["emotion_accuracy"].value == pytest.approx(np.mean(followed))
        fear = [follows for each, follows in zip(rows, followed, strict=True) if each["target_emotion"] == "fear"]
        assert found.estimates[model]["emotion/fear/recall"].value == pytest.approx(np.mean(fear))
    assert found.num_prompts_with_target("fear") == 42


def test_the_gold_replies_are_those_of_an_evaluation_of_gold_targets(found, of_gold_targets):
    assert gold_as_predictions(ROWS["adapter"]) == gold_as_predictions(OF_GOLD_TARGETS["adapter"])
    for name, estimate in of_gold_targets.estimates["gold"].items():
        if not name.startswith("distinct"):  # that is compared at the length of the shortest text
            assert found.estimates["gold"][name] == estimate, name
    assert found.flatten()["gold/emotion/fear/support"] == 6


@pytest.mark.parametrize("name", ["gold_perplexity", "length_ratio", "mean_gold_length_ratio"])
def test_what_is_set_beside_the_gold_reply_is_of_its_target_alone(found, of_gold_targets, name):
    for model in ROWS:
        expected, estimate = of_gold_targets.estimates[model][name], found.estimates[model][name]
        assert (estimate.value, estimate.low, estimate.high) == pytest.approx(
            (expected.value, expected.low, expected.high)
        )


def test_differences_from_the_gold_replies_are_of_replies_with_their_targets(found, of_gold_targets):
    assert found.gold_differences == of_gold_targets.gold_differences
    assert "to the same prompts with the same target emotion" in draw_conclusions(found)[-1]


def test_the_table_beside_the_gold_replies_counts_replies_with_their_targets(found, of_gold_targets):
    assert found.gold_ngrams == of_gold_targets.ngrams
    of_gold, of_all = (
        [row[0] for rows in build(found).groups.values() for row in rows]
        for build in (table.build_gold_table, table.build_table)
    )
    prompts = sum(each["target_emotion"] == "anger" for each in found.gold_predictions)
    assert f"anger (n = {prompts})" in of_gold and f"anger (n = {found.prompts})" in of_all


def test_what_only_replies_with_other_targets_have_is_not_compared_with_the_gold_replies():
    """The model finds fear in none of the replies with the gold target: of these, its precision is not known."""
    rows = [each for each in ROWS["adapter"] if not each["sample"]]
    rows = [each | {"predicted_emotion": "anger"} if has_gold_target(each) else each for each in rows]
    rows = [each | {"gold_emotion": each["gold_target"]} for each in rows]
    compared = compare({"adapter": rows})
    assert "emotion/fear/precision" in compared.estimates["adapter"]
    assert "emotion/fear/precision" not in compared.gold_differences["adapter"]
    assert np.isfinite(list(compared.flatten().values())).all()


def test_a_text_of_distinct_n_has_one_target(found):
    for model, rows in ROWS.items():
        texts = [
            [each["response"] for each in rows if (each["target_emotion"], each["sample"]) == (target, sample)]
            for target in EMOTIONS
            for sample in range(SAMPLES)
        ]
        assert len(texts) == 14 and {len(text) for text in texts} == {42}
        assert (
            found.ngrams["distinct_1"] == 4 * 42
        )  # all texts have more words than the gold replies, "It is pouring !"
        different = np.mean([Text.of(text, 1).distinct(4 * 42) for text in texts])
        assert found.estimates[model]["distinct_1"].value == pytest.approx(different)


def test_replies_to_one_dialogue_with_several_targets_are_no_repeats():
    rows = [row(0, "anger", response="No ."), row(0, "fear", response="No ."), row(1, "anger", response="Yes .")]
    assert not columns.repeats_another_reply(rows).any()


def test_a_dialogue_is_one_prompt_whatever_its_number_of_targets():
    """The same outcome for all seven targets of a dialogue says no more than one outcome."""
    once = [row(index, "anger", "anger" if index % 3 else "fear", gold_emotion="anger") for index in range(60)]
    often = []
    for each in once:
        follows = each["predicted_emotion"] == "anger"
        for place, target in enumerate(EMOTIONS):
            predicted = target if follows else EMOTIONS[place - 1]
            often.append(each | {"target_emotion": target, "predicted_emotion": predicted})
    one, other = (compare({"adapter": rows}).estimates["adapter"]["emotion_accuracy"] for rows in (once, often))
    assert (one.value, one.low, one.high) == pytest.approx((other.value, other.low, other.high))


def test_the_exact_interval_of_a_recall_counts_all_dialogues():
    rows = [each | {"predicted_emotion": each["target_emotion"]} for each in ROWS["adapter"] if not each["sample"]]
    recall = compare({"adapter": rows}).estimates["adapter"]["emotion/fear/recall"]
    assert (recall.low, recall.high) == pytest.approx(clopper_pearson_interval(42, 42))


def test_the_report_says_how_many_dialogues_and_replies_there_are(found):
    assert "; 42 prompts with 14 replies each, for all 7 emotions." in report.format_summary(found, {}, [])
    metrics = found.flatten()
    assert (metrics["prompts"], metrics["samples_per_prompt"], metrics["replies"]) == (42, 2, 588)


def test_rows_are_in_the_order_of_the_labels():
    rows = [row(1, "neutral"), row(0, "surprise"), row(0, "neutral", sample=1), row(0, "neutral"), row(0, "anger")]
    ordered = group_by_model([each | {"model": "adapter"} for each in rows], EMOTION_LABELS)["adapter"]
    assert [(each["index"], each["target_emotion"], each["sample"]) for each in ordered] == [
        (0, "neutral", 0),
        (0, "neutral", 1),
        (0, "anger", 0),
        (0, "surprise", 0),
        (1, "neutral", 0),
    ]


def read(folder, rows: list[dict]) -> list[dict]:
    lines = [{"model": "adapter", "prompt": "", **each} for each in rows]
    write_rows(folder / "predictions.jsonl", lines)
    return predictions_file.read_predictions(folder, GENERATED_FIELDS, EMOTION_LABELS)


def test_a_file_of_before_there_was_a_gold_target_has_that_of_its_targets(tmp_path):
    old = [row(0, "fear"), row(1, "anger")]
    for each in old:
        del each["gold_target"]
    assert [each["gold_target"] for each in read(tmp_path, old)] == ["fear", "anger"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda rows: rows[:-1], "no reply|different numbers of replies"),
        (
            lambda rows: [each for each in rows if each["target_emotion"] != "fear"],
            "row 0 has replies with the targets",
        ),
        (lambda rows: [*rows, rows[0]], "two replies of one model to one prompt, target and sample"),
        (lambda rows: [rows[0] | {"gold_target": "fear"}, *rows[1:]], "row 0 has another prompt here"),
        (lambda rows: [rows[0] | {"gold_target": "joy"}, *rows[1:]], "line 1: gold_target is 'joy'"),
        (lambda rows: [each for each in rows if has_gold_target(each) or each["index"]], "row 0 has replies with the"),
    ],
)
def test_files_without_all_targets_are_refused(tmp_path, change, words):
    with pytest.raises(InputError, match=words):
        read(tmp_path, change(ROWS["adapter"]))


def test_a_whole_file_is_read(tmp_path):
    assert len(read(tmp_path, ROWS["adapter"])) == len(ROWS["adapter"])


def test_runs_of_gold_and_of_all_targets_are_not_compared():
    rows = {"first": OF_GOLD_TARGETS["adapter"], "second": ROWS["adapter"]}
    (message,) = finished_runs.find_differing_prompts("first", "second", rows)
    assert "has replies with dataset.target_emotions 'all', first with 'gold'" in message
    assert not finished_runs.find_differing_prompts("first", "second", dict.fromkeys(rows, ROWS["adapter"]))
    other = json.loads(json.dumps(ROWS["adapter"]))
    other[9]["gold_response"] = "Another one ."
    (message,) = finished_runs.find_differing_prompts("first", "second", {"first": ROWS["adapter"], "second": other})
    assert "has another prompt than in first" in message
