"""The replies of two models to the same prompts, read from finished evaluations."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from response_generator.errors import InputError
from response_generator.evaluation import finished_runs
from response_generator.evaluation.finished_runs import ComparedModel
from response_generator.evaluation.predictions_file import Prediction, read_labels
from response_generator.labels import Labels

Place = tuple[int, str | None, int]  # of a reply: index of its dialogue, target label (None without labels), sample


@dataclass(frozen=True)
class ComparedReplies:
    """rows: of the two models, by the place of the reply; the places are the same."""

    labels: Labels
    rows: dict[str, dict[Place, Prediction]]

    @property
    def models(self) -> list[str]:
        return list(self.rows)

    def count_prompts(self) -> int:
        return len({place[:2] for place in next(iter(self.rows.values()))})

    def list_replies(self, place: Place) -> list[str]:
        """The replies of the two models."""
        return [rows[place]["response"] for rows in self.rows.values()]

    def differ(self, place: Place) -> bool:
        """Whether a reader sees a difference."""
        first, second = (" ".join(reply.split()) for reply in self.list_replies(place))
        return first != second

    def list_differing_prompts(self) -> dict[tuple, list[Place]]:
        """By prompt (dialogue and target), in order, the places where the two models say something different."""
        prompts: dict[tuple, list[Place]] = {}
        for place in sorted(next(iter(self.rows.values())), key=lambda place: (place[0], place[1] or "", place[2])):
            if self.differ(place):
                prompts.setdefault(place[:2], []).append(place)
        return prompts


def find_place(row: Prediction) -> Place:
    return row["index"], row.get("target_emotion"), row["sample"]


def read_replies(
    folders: Sequence[Path], models: Sequence[str] | None = None, origin: str = "--models"
) -> ComparedReplies:
    """Reads a finished run with two models or more, or several runs on the same prompts, whose adapters are the models.

    Args:
        models: names of two of them; None: the first two. origin: where they are written, for messages.

    Raises:
        InputError: with what keeps the runs or the models from being compared.
    """
    try:
        labels, by_model = read_run(folders[0]) if len(folders) == 1 else read_runs(folders)
    except InputError as error:  # finished_runs reads for --compare, too, and names the option
        raise InputError(*(message.removeprefix("--compare: ") for message in error.messages)) from error
    chosen = list(models or by_model)[:2]
    unknown = [name for name in chosen if name not in by_model]
    if unknown or len(set(chosen)) < 2:
        place = ", ".join(map(str, folders))
        raise InputError(
            f"{origin}: got {', '.join(chosen)}; {place} holds replies of {', '.join(by_model)}; needed: two of them"
            if models
            else f"{place}: holds replies of {', '.join(by_model)} alone; needed: two models; name two runs on the "
            f"same prompts, or evaluate with a baseline_adapter"
        )
    return ComparedReplies(labels, {name: {find_place(row): row for row in by_model[name]} for name in chosen})


def read_run(folder: Path) -> tuple[Labels, dict[str, list[Prediction]]]:
    if errors := finished_runs.find_run_errors(folder):
        raise InputError(*errors)
    arguments = finished_runs.read_run_arguments(folder)
    return read_labels(arguments), finished_runs.read_predictions_by_model(folder, arguments)


def read_runs(folders: Sequence[Path]) -> tuple[Labels, dict[str, list[Prediction]]]:
    runs = finished_runs.read_runs([ComparedModel(None, (folder,)) for folder in folders])
    return runs.labels, runs.rows
