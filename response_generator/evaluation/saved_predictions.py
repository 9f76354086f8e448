"""Replies that another run has written, for --from_predictions: where they are, and what of that run goes with them."""

import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from response_generator.config import strict_json
from response_generator.config.schema import EvaluateArguments
from response_generator.data.datasets import SKIPPED_ROWS
from response_generator.data.tokenization import DROPPED_PAIRS
from response_generator.errors import InputError
from response_generator.evaluation import pair_logprobs, predictions_file
from response_generator.evaluation.predictions import SPEED_FILE

JUDGED_ANEW = ("seed", "scoring", "preferences", "bootstrap_resamples", "wandb", "output_dir", "from_predictions")


@dataclass(frozen=True)
class SavedPredictions:
    """A predictions.jsonl, named by itself or by its run folder."""

    place: Path

    @property
    def folder(self) -> Path:
        return self.place if self.place.is_dir() else self.place.parent

    def rows(self) -> list[predictions_file.Prediction]:
        return predictions_file.read(self.place, predictions_file.GENERATED_FIELDS)

    @cached_property
    def arguments(self) -> dict[str, Any]:
        """Of the run that wrote the replies; empty where they lie in no run folder."""
        file = self.folder / "args.json"
        return strict_json.read_object(file) if file.is_file() else {}

    def settings(self, resolved: dict[str, Any]) -> dict[str, Any]:
        """What made the replies, by the run that did; what judges them, by the args of this one."""
        return {key: value for key, value in self.arguments.items() if key not in JUDGED_ANEW} | {
            key: resolved[key] for key in JUDGED_ANEW if key in resolved
        }

    def check_preferences(self, arguments: EvaluateArguments) -> None:
        """Pairs are measured with the replies: others cannot be asked for afterwards. InputError when they are."""
        if arguments.preferences is None:
            return
        if not (self.folder / pair_logprobs.FILE).is_file():
            raise InputError(
                f"preferences: {self.folder} has no {pair_logprobs.FILE}: its run measured no pairs; pass "
                f"--set preferences=null"
            )
        measured = (self.arguments.get("preferences") or {}).get("dataset")
        asked = arguments.preferences.dataset.model_dump(mode="json")
        if measured is not None and measured != asked:
            raise InputError(f"preferences.dataset: {self.folder} measured the pairs of {measured}; name these")

    def left_out(self) -> dict[str, int]:
        """The account of the rows that the run skipped as bad ones, and of the pairs that it dropped."""
        file = self.folder / "metrics.json"
        metrics = strict_json.read_object(file) if file.is_file() else {}
        return {
            name: count for name, count in metrics.items() if f"/{SKIPPED_ROWS}" in name or f"/{DROPPED_PAIRS}" in name
        }

    def copy_artifacts(self, folder: Path) -> None:
        """Copies what lies beside the replies into another run's folder: speeds, and log-probabilities of pairs."""
        for name in (SPEED_FILE, pair_logprobs.FILE):
            if (self.folder / name).is_file():
                shutil.copy(self.folder / name, folder / name)
