"""The embedded default: its data, its adapter, its recipes."""

import json
import random
import re

import pytest
from conftest import ROOT, read_args, read_lines
from script_runs import run_here
from sklearn.feature_extraction.text import CountVectorizer
from tiny_models import DEMO_DATA, EMOTION_LABELS

from response_generator.config.dataset_schema import DatasetArguments, FilterArguments
from response_generator.data.reading import read_dialogues, read_pairs
from response_generator.demo import classifiers, pair_classifiers
from response_generator.demo.base_model import write_base_model
from response_generator.labels import DAILY_DIALOG_EMOTIONS
from response_generator.modeling.adapter_file import AdapterFile
from response_generator.preferences import __main__ as preferences
from response_generator.preferences.filters import filter_pairs
from response_generator.programs import demo_run
from response_generator.scoring.quality import read_quality

SPLITS = ("train", "validation", "test")


def dialogues(split):
    return read_dialogues(DatasetArguments(path=str(DEMO_DATA / f"dialogues_{split}.jsonl")), EMOTION_LABELS)[0]


def raw_pairs(split) -> list[dict]:
    return [json.loads(line) for line in (DEMO_DATA / f"written_pairs_{split}.jsonl").read_text().splitlines()]


def words_of(dialogue) -> str:
    return " ".join([turn["content"]["dialog"] for turn in dialogue.history] + [dialogue.gold_response])


def test_there_are_enough_dialogues_of_every_emotion():
    everything = {split: dialogues(split) for split in SPLITS}
    assert sum(map(len, everything.values())) >= 420
    assert len(everything["test"]) >= 105
    for emotion in DAILY_DIALOG_EMOTIONS:
        assert sum(row.target_emotion == emotion for rows in everything.values() for row in rows) >= 60
    assert {len(row.history) + 1 for rows in everything.values() for row in rows} == {2, 4, 6}


def test_no_dialogue_is_another_one_with_words_exchanged():
    texts = [words_of(row) for split in SPLITS for row in dialogues(split)]
    assert len(set(texts)) == len(texts)
    grams = CountVectorizer(ngram_range=(4, 4), binary=True, token_pattern=r"\S+").fit_transform(texts)
    shared = (grams @ grams.T).toarray()
    sizes = shared.diagonal().copy()
    shared[range(len(texts)), range(len(texts))] = 0
    # The share of a dialogue's four-word runs that stand in any one other dialogue.
    assert (shared.max(axis=1) / sizes).max() < 0.25


def test_written_pairs_are_enough_and_fail_in_all_four_ways_and_stay_in_their_split():
    for split, least in (("train", 300), ("validation", 70)):
        dataset = DatasetArguments(path=str(DEMO_DATA / f"written_pairs_{split}.jsonl"))
        assert len(read_pairs(dataset, EMOTION_LABELS)[0]) >= least
        assert {row["failure"] for row in raw_pairs(split)} == {"wrong emotion", "cut off", "word salad", "evasive"}
        own = {row.history[-1]["content"]["dialog"] for row in dialogues(split)}
        assert {row["prompt"][-1]["content"]["dialog"] for row in raw_pairs(split)} <= own
    train, held_out = ({row["prompt"][-1]["content"]["dialog"] for row in raw_pairs(split)} for split in SPLITS[:2])
    assert not train & held_out


def test_training_pairs_pass_the_filters_of_their_args():
    pairs, _ = read_pairs(DatasetArguments(path=str(DEMO_DATA / "preferences_train.jsonl")), EMOTION_LABELS)
    assert len(pairs) == 463
    filters = FilterArguments(**read_args("demo/preference_arg.json")["filters"])
    assert filter_pairs("dataset", pairs, filters, EMOTION_LABELS)[0] == pairs
    prompts = [row.history[-5:] for row in dialogues("train")]
    rows = read_lines(DEMO_DATA / "preferences_train.jsonl")
    assert all(row["prompt"] == prompts[row["index"]] for row in rows)


def test_the_classifiers_of_pairs_and_evaluation_share_no_texts():
    (train, _), (_, held_out) = pair_classifiers.split_emotion_examples(), pair_classifiers.split_emotion_examples()
    evaluation = {text for text, _ in classifiers.collect_utterances(("train",))}
    assert len({text for text, _ in train} & evaluation) <= 3  # the same everyday sentence in two dialogues
    assert len({text for text, _ in train} & {text for text, _ in held_out}) <= 3


def test_make_assets_writes_every_model_that_the_args_of_the_demo_name():
    files = (ROOT / "args" / "demo").glob("*.json")
    named = {name for file in files for name in re.findall(r'"assets/(\w+)"', file.read_text(encoding="utf-8"))}
    named |= set(re.findall(r'"assets/(\w+)"', (ROOT / "args" / "models" / "smollm2.json").read_text(encoding="utf-8")))
    assert named >= {"base_model", "emotion_classifier", "pair_emotion_classifier"}
    assert named <= set(demo_run.WRITERS)


@pytest.mark.slow
def test_building_the_first_pairs_anew_gives_the_committed_ones(tmp_path):
    """In float32 replies do not depend on their batch, so prompts get the replies that they got among all others."""
    write_base_model(tmp_path / "base")
    for name in pair_classifiers.NAMES:
        (tmp_path / name).mkdir()
        pair_classifiers.write_classifier(name, tmp_path / name)
    values = read_args("demo/preference_arg.json") | {
        "output_dir": str(tmp_path / "run"),
        "base_model": str(tmp_path / "base"),
    }
    values["adapter"] = str(ROOT / values["adapter"])
    values["chat_template"]["file"] = str(ROOT / values["chat_template"]["file"])
    values["dataset"] = {"path": str(DEMO_DATA / "dialogues_train.jsonl"), "limit": 2}
    values["scoring"] |= {
        "emotion_model": str(tmp_path / "pair_emotion_classifier"),
        "gibberish_model": str(tmp_path / "pair_gibberish_classifier"),
    }
    assert run_here(preferences.main, values, tmp_path) == 0
    committed = [row for row in read_lines(DEMO_DATA / "preferences_train.jsonl") if row["index"] < 2]
    rows = read_lines(tmp_path / "run" / "preferences.jsonl")
    assert rows
    for row, expected in zip(rows, committed, strict=True):
        for key in ("index", "prompt", "chosen", "rejected", "attempts", "chosen_emotion", "chosen_gibberish_label"):
            assert row[key] == expected[key]
        assert row["chosen_score"] == pytest.approx(expected["chosen_score"], abs=1e-3)


def test_the_adapter_is_small_and_of_the_recipe():
    lora = read_args("demo/sft_arg.json")["lora"]
    adapter = AdapterFile.read(ROOT / "response_generator" / "demo" / "sft_adapter")
    assert sum(file.stat().st_size for file in adapter.folder.iterdir()) <= 5_000_000
    assert adapter.config["r"] == lora["r"]
    assert adapter.config["layers_to_transform"] == lora["layers_to_transform"]
    assert sorted(adapter.config["target_modules"]) == sorted(lora["target_modules"])
    assert adapter.config["base_model_name_or_path"] == "assets/base_model"


def test_classifiers_learn_from_train_dialogues_alone():
    train = {text for text, _ in classifiers.collect_utterances(("train",))}
    held_out = {text for text, _ in classifiers.collect_utterances(("validation", "test"))}
    # The same everyday sentence may fall in two dialogues; more than a few would be a leak.
    assert len(train & held_out) <= 3
    assert {label for _, label in classifiers.collect_utterances(("train",))} == set(DAILY_DIALOG_EMOTIONS)


def test_gibberish_examples_are_what_their_labels_say():
    text = "I lost my umbrella on the bus this morning ."
    examples = classifiers.make_gibberish_examples([text, "We are late ."], ["salad of a person"], seed=1)
    assert ("salad of a person", "word salad") in examples
    assert (text, "clean") in examples
    assert {label for _, label in examples} == set(classifiers.GIBBERISH_LABELS)
    slipped = classifiers.add_grammar_slips(text, random.Random(0))
    assert slipped != text
    assert set(slipped.split()) <= set(text.split())


def test_a_classifier_is_an_ordinary_folder_and_learns(tmp_path):
    from transformers import AutoConfig

    happy = [f"I am so happy about the {thing} !" for thing in ("cake", "letter", "garden", "trip", "song", "puppy")]
    angry = [f"I am furious about the {thing} !" for thing in ("noise", "bill", "delay", "rain", "queue", "dent")]
    examples = [(text, "happiness") for text in happy] + [(text, "anger") for text in angry]
    classifiers.train_classifier(examples * 16, examples, ("anger", "happiness"), tmp_path, epochs=3)
    assert AutoConfig.from_pretrained(tmp_path).id2label == {0: "anger", 1: "happiness"}
    (data,) = read_quality(str(tmp_path)).data_sets.values()
    assert data.confusion == ((6, 0), (0, 6))


@pytest.mark.parametrize("split", SPLITS)
def test_words_are_spaced_as_in_daily_dialog(split):
    for row in dialogues(split):
        assert not re.search(r"\w[.!?,](\s|$)", words_of(row))
