"""The predictions of an earlier run, for --from_predictions, with the files and settings of that run."""

import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from response_generator.config import strict_json
from response_generator.config.schema import EvaluateArguments
from response_generator.config.scoring_conflicts import find_shared_classifiers
from response_generator.constants import PAIR_LOGPS_FILE, THROUGHPUT_FILE
from response_generator.data.pair_tokenization import DROPPED_PAIRS
from response_generator.data.reading import SKIPPED_ROWS
from response_generator.errors import InputError
from response_generator.evaluation import pair_logprobs, predictions_file
from response_generator.evaluation.comparison import RESERVED_NAMES
from response_generator.generation.server.facts import SERVER
from response_generator.labels import Labels
from response_generator.runs import environment

# Keys of the args that decide how replies are scored; all others decided how they were generated.
SCORING_KEYS = (
    "seed",
    "neutral_label",
    "scoring",
    "heldout_pairs",
    "bootstrap_resamples",
    "wandb",
    "output_dir",
    "from_predictions",
)


@dataclass(frozen=True)
class SavedPredictions:
    """A predictions.jsonl, given by its path or by its run folder."""

    place: Path

    @property
    def folder(self) -> Path:
        return self.place if self.place.is_dir() else self.place.parent

    def rows(self, labels: Labels) -> list[predictions_file.Prediction]:
        """The replies of all models.

        Args:
            labels: which the run must have had that generated the replies.

        Raises:
            InputError: when they cannot be used, or a model has a name that means something else in metrics.json.
        """
        earlier = predictions_file.read_labels(self.arguments) if self.arguments else labels
        if earlier.names != labels.names:
            raise InputError(
                f"labels: got {', '.join(labels.names) or 'none'}; the replies of {self.place} were generated with "
                f"{', '.join(earlier.names) or 'none'}; name the same"
            )
        rows = predictions_file.read_predictions(self.place, predictions_file.list_generated_fields(labels), labels)
        if reserved := [name for name in RESERVED_NAMES if any(row["model"] == name for row in rows)]:
            raise InputError(
                f"{self.place}: model is {', '.join(reserved)}, which is the name of something else in metrics.json; "
                f"give the model another name"
            )
        return rows

    @cached_property
    def arguments(self) -> dict[str, Any]:
        """The args of the run that generated the replies; empty where the file is not in a run folder."""
        file = self.folder / "args.json"
        return strict_json.read_object(file) if file.is_file() else {}

    @property
    def generating_run(self) -> "SavedPredictions":
        """The run that generated the replies, where this one has scored them again and that one is still there."""
        source = self.arguments.get("from_predictions")
        is_other = source is not None and Path(source).exists() and Path(source) != self.place
        return SavedPredictions(Path(source)).generating_run if is_other else self

    def settings(self, resolved: dict[str, Any]) -> dict[str, Any]:
        """The generating run's args, with SCORING_KEYS from this run's `resolved` args."""
        return {key: value for key, value in self.arguments.items() if key not in SCORING_KEYS} | {
            key: resolved[key] for key in SCORING_KEYS if key in resolved
        }

    def check_preferences(self, arguments: EvaluateArguments) -> None:
        """Log-probabilities of pairs cannot be computed here, because no model is loaded.

        Raises:
            InputError: when the args ask for pairs that the earlier run has not measured, or whose rows are damaged.
        """
        if arguments.heldout_pairs is None:
            return
        if not (self.folder / PAIR_LOGPS_FILE).is_file():
            raise InputError(
                f"heldout_pairs: {self.folder} has no {PAIR_LOGPS_FILE}: its run measured no pairs; pass "
                f"--set heldout_pairs=null"
            )
        measured = (self.arguments.get("heldout_pairs") or {}).get("dataset")
        wanted = arguments.heldout_pairs.dataset.model_dump(mode="json")
        if measured is not None and measured != wanted:
            raise InputError(f"heldout_pairs.dataset: {self.folder} measured the pairs of {measured}; name these")
        pair_logprobs.read_reward_margins(self.folder, arguments.heldout_pairs)  # before the replies are classified

    def check_classifiers(self, arguments: EvaluateArguments) -> None:
        """Checks that no classifier evaluates replies that it has chosen.

        Raises:
            InputError: when one of `scoring` chose the best replies of the earlier run.
        """
        choosing = (self.generating_run.arguments.get("best_of") or {}).get("scoring", {})
        errors = find_shared_classifiers(arguments.scoring.model_dump(), choosing)
        errors = [f"{self.place}: {message}" for message in errors]
        if errors:
            raise InputError(*errors)

    def left_out(self) -> dict[str, int]:
        """Counts of skipped rows and dropped pairs, from the earlier run's metrics.json."""
        file = self.folder / "metrics.json"
        metrics = strict_json.read_object(file) if file.is_file() else {}
        return {
            name: count for name, count in metrics.items() if f"/{SKIPPED_ROWS}" in name or f"/{DROPPED_PAIRS}" in name
        }

    def describe_generation(self) -> dict[str, Any]:
        """What environment.json says of how the replies were written."""
        noted = environment.read_environment(self.folder)
        return {key: noted[key] for key in ("generation_method", "model", SERVER) if key in noted}

    def copy_artifacts(self, folder: Path) -> None:
        """Copies throughput and log-probabilities of pairs into this run's folder."""
        for name in (THROUGHPUT_FILE, PAIR_LOGPS_FILE):
            if (self.folder / name).is_file():
                shutil.copy(self.folder / name, folder / name)
