"""A folder in which the commands of the documents run: args files and templates are the repository's own; the demo's
rows are a few, models are tiny, and what is on the hub is a folder of the same name."""

import json
import shutil
from pathlib import Path

from published_models import write_published_adapter, write_published_base
from tiny_assets import write_tiny_assets
from tiny_families import write_tiny_family
from tiny_models import DEMO_DATA, ROOT, demo_rows, write_tiny_adapter, write_tiny_classifier

ROWS = 10  # of each data set: one batch
SPLITS = ("train", "validation", "test")
PUBLISHED_ADAPTER = "hermeschen1116/response_generator_for_emotion_chat_bot@bbe8102695f6cceed52aeca9a1d1588a61a8e9e3"
# The published emotion classifier has a label that is not an emotion; the args files map it.
PUBLISHED_LABELS = ("neutral", "anger", "disgust", "fear", "joy", "sadness", "surprise")


def write_small_repository(folder: Path) -> None:
    for name in ("args", "fine_tune_dpo.py", "evaluate.py"):
        (folder / name).symlink_to(ROOT / name)
    package = folder / "response_generator"
    (package / "demo" / "data").mkdir(parents=True)
    for name in ("data", "scoring"):  # the chat templates and the words that name an emotion
        (package / name).symlink_to(ROOT / "response_generator" / name)
    for file in DEMO_DATA.glob("*.jsonl"):
        copy_rows(file.stem, package / "demo" / "data" / file.name)
    write_tiny_assets(folder / "assets")
    write_tiny_adapter(folder / "assets" / "base_model", package / "demo" / "sft_adapter")
    write_hub_repositories(folder)
    write_emotion_texts(folder / "emotion_texts")


def write_hub_repositories(folder: Path) -> None:
    for owner in ("unsloth", "hermeschen1116", "Shotaro30678", "madhurjindal", "owner"):
        (folder / owner).mkdir()
    base = folder / "unsloth" / "llama-2-7b"
    write_published_base(base)
    shutil.copytree(base, folder / "unsloth" / "llama-2-7b-bnb-4bit")
    write_published_adapter(base, folder / PUBLISHED_ADAPTER, copies=True)
    write_tiny_family("qwen3", folder / "unsloth" / "Qwen3-8B-bnb-4bit")
    for name in ("Shotaro30678/emotion_text_classifier_on_dd_v1", "owner/another-classifier"):
        write_tiny_classifier(folder / name, folder / "assets" / "base_model", PUBLISHED_LABELS)
    gibberish = folder / "madhurjindal" / "autonlp-Gibberish-Detector-492513457"
    shutil.copytree(folder / "assets" / "gibberish_classifier", gibberish)
    for split in SPLITS:
        copy_rows(f"dialogues_{split}", folder / "hermeschen1116" / "daily_dialog_for_RG" / f"{split}.jsonl")
    copy_rows("preferences_train", folder / "Shotaro30678" / "rlhf-RG-trl-style-v3" / "train.jsonl")


def write_emotion_texts(folder: Path) -> None:
    """The user's texts of other corpora, which are not on the hub: here, turns of the demo's dialogues."""
    folder.mkdir()
    for corpus in ("meld", "goemotions"):
        for split in ("train", "test"):
            contents = (turn["content"] for row in demo_rows(f"dialogues_{split}", ROWS) for turn in row["prompt"])
            texts = [{"text": content["dialog"], "emotion": content["emotion"]} for content in contents]
            lines = "".join(json.dumps(row) + "\n" for row in texts)
            (folder / f"{corpus}_{split}.jsonl").write_text(lines, encoding="utf-8")


def copy_rows(name: str, file: Path) -> None:
    file.parent.mkdir(exist_ok=True)
    with open(DEMO_DATA / f"{name}.jsonl", encoding="utf-8") as rows:
        file.write_text("".join(row for _, row in zip(range(ROWS), rows, strict=False)), encoding="utf-8")
