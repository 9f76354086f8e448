"""Tiny models under the names that `make assets` and the demo give to the real ones."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import tiny_models

GIBBERISH_LABELS = ("clean", "noise")


def write_tiny_assets(assets: Path, labels: Sequence[str] = tiny_models.EMOTION_LABELS.names) -> None:
    """Writes a base model with SmolLM2's pad token, which the args files name, and with a chat template, an encoder and
    four classifiers."""
    tokens = [*tiny_models.SPECIAL_TOKENS, "<|endoftext|>"]
    tiny_models.write_tiny_base(assets / "base_model", special_tokens=tokens)
    template = tiny_models.ROOT / "response_generator" / "data" / "templates" / "chatml_emotion.jinja"
    shutil.copy(template, assets / "base_model" / "chat_template.jinja")
    for name in ("encoder", "emotion_classifier", "pair_emotion_classifier"):
        tiny_models.write_tiny_classifier(assets / name, assets / "base_model", labels)
    for name in ("gibberish_classifier", "pair_gibberish_classifier"):
        tiny_models.write_tiny_classifier(assets / name, assets / "base_model", GIBBERISH_LABELS)


def link_repository(folder: Path) -> None:
    """Makes `folder` look like the repository to a program that reads its args files."""
    for name in ("args", "response_generator", "fine_tune_dpo.py", "evaluate.py"):
        (folder / name).symlink_to(tiny_models.ROOT / name)
