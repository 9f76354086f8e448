"""The arguments of `python -m response_generator.classifier`, in the same form as those in schema.py."""

from typing import Annotated, Any

from pydantic import Field

from response_generator.config.ranges import MAX_COUNT, MAX_SEED
from response_generator.config.schema import DatasetArguments, LocalPath, Section, SourceName
from response_generator.config.sources import SourceKind


class ClassifierArguments(Section):
    output_dir: LocalPath
    """Run folder. All files of the run are written there."""
    seed: int = Field(ge=0, le=MAX_SEED)
    """Random seed of the whole run."""
    base_model: Annotated[SourceName, SourceKind.PRETRAINED_MODEL]
    """Pretrained encoder or language model that gets a new classification head: hub id or folder."""
    frozen_layers: int = Field(default=0, ge=0, le=MAX_COUNT)
    """How many of its first layers are not trained; with 1 or more, its token embeddings are not trained either."""
    dataset: DatasetArguments
    """The dialogues to learn from: every turn with its emotion."""
    extra_dataset: DatasetArguments | None = None
    """More dialogues to learn from; null: none."""
    eval_dataset: DatasetArguments
    """Held-out dialogues on which the accuracy is measured: every turn, and the last reply of each dialogue."""
    trainer: dict[str, Any]
    """Fields of transformers' TrainingArguments."""
