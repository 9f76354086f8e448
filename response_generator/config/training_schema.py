"""The arguments of SFT, DPO and the training of a classifier, in the same form as those in schema.py."""

import re
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field

from response_generator.config.dataset_schema import (
    DatasetArguments,
    FilteredPairDatasetArguments,
    LabeledDatasetArguments,
    WeightedDatasetArguments,
)
from response_generator.config.library.key_rule import MAX_COUNT, MAX_SEED
from response_generator.config.schema import HubArguments, LabelArguments, ModelArguments
from response_generator.config.scoring_schema import ScoringArguments
from response_generator.config.section import AdapterName, LocalPath, Section, SourceName
from response_generator.config.sources import SourceKind

MAX_SAMPLE_PROMPTS = 50


class ExportArguments(Section):
    path: LocalPath
    """Folder to write: base model and adapter merged, as 16-bit safetensors."""
    base_model: Annotated[SourceName, SourceKind.EXPORT_BASE] | None = None
    """The 16-bit base model to merge into; null: `base_model`."""
    dtype: Literal["bfloat16", "float16"] = "bfloat16"
    """Data type of the merged weights."""


class SampleArguments(Section):
    every_steps: int = Field(ge=1, le=MAX_COUNT)
    """Optimizer steps from one set of replies to the next; there is also one before the first step and one at the
    end."""
    prompts: int = Field(default=3, ge=1, le=MAX_SAMPLE_PROMPTS)
    """Number of prompts, the same at every step: from `eval_dataset`, or from `dataset` where there is none."""
    max_new_tokens: int = Field(default=60, ge=1, le=MAX_COUNT)
    """Greatest length of a reply, in tokens."""


class AdapterTrainingArguments(ModelArguments):
    """What DPO and SFT share. `section` is the key of the section with the fields of TRL's configuration."""

    section: ClassVar[str]

    adapter: AdapterName | None
    """LoRA adapter that training starts from: hub id or folder; null: a new LoRA from the section `lora`."""
    lora: dict[str, Any] | None = None
    """Fields of PEFT's LoraConfig for a new LoRA; only when `adapter` is null."""
    sample_replies: SampleArguments | None = None
    """Replies to a few prompts during training, to read what it changes; null: none."""
    tensorboard: bool = False
    """Write the log for TensorBoard too, into the folder `tensorboard` of the run folder."""
    push_to_hub: HubArguments | None = None
    """Hub repository to upload the adapter to after training, with the token in HF_TOKEN; null: no upload."""

    @property
    def trl_settings(self) -> dict[str, Any]:
        """The section with the fields of TRL's configuration."""
        return getattr(self, self.section)


class SFTArguments(AdapterTrainingArguments):
    section = "sft"

    dataset: DatasetArguments
    """The dialogues."""
    replies: Literal["all", "last"] = "all"
    """`all`: the loss is on every reply of the assistant; `last`: on the last reply of each dialogue."""
    eval_dataset: DatasetArguments | None = None
    """Held-out dialogues, evaluated after training, and during it with `sft.eval_strategy`; null: none."""
    sft: dict[str, Any]
    """Fields of TRL's SFTConfig; also `early_stopping_patience` and `early_stopping_threshold`."""


class DPOArguments(AdapterTrainingArguments):
    section = "dpo"

    dataset: FilteredPairDatasetArguments
    """The preference pairs."""
    reference_adapter: AdapterName | None = None
    """Frozen reference: hub id or folder; null: a copy of `adapter`, or the bare base model for a new LoRA."""
    eval_dataset: FilteredPairDatasetArguments | None = None
    """Held-out pairs, evaluated after training, and during it with `dpo.eval_strategy`; null: none."""
    dpo: dict[str, Any]
    """Fields of TRL's DPOConfig; also `early_stopping_patience` and `early_stopping_threshold`."""
    scoring: ScoringArguments | None = None
    """Classifiers for filters on emotion and gibberish, where the pairs have no labels of their own; null: none."""
    export: ExportArguments | None = None
    """Merged 16-bit model to write after training; null: none."""


class CalibrationArguments(Section):
    dataset: LabeledDatasetArguments
    """Held-out texts with labels, on which a scale and a bias of each label are fitted: a data set with the keys of
    those in `eval_datasets`."""
    label_balance: float = Field(default=0.0, ge=0, le=1)
    """How frequent the labels are taken to be. 0: as in these texts; 1: all alike, so that rare labels are found more
    often; between: log frequencies times 1 - `label_balance`."""


def check_dataset_names(datasets: dict[str, Any]) -> dict[str, Any]:
    if not datasets or not all(re.fullmatch(r"[\w-]([\w -]{0,38}[\w-])?", name) for name in datasets):
        raise ValueError(
            "needed: one or more data sets; allowed in a name: up to 40 letters, digits, _, -, and spaces inside it"
        )
    return datasets


class ClassifierArguments(LabelArguments):
    output_dir: LocalPath
    """Run folder. All files of the run are written there."""
    seed: int = Field(ge=0, le=MAX_SEED)
    """Random seed of the whole run."""
    base_model: Annotated[SourceName, SourceKind.PRETRAINED_MODEL]
    """Pretrained encoder or language model that gets a new classification head: hub id or folder."""
    frozen_layers: int = Field(default=0, ge=0, le=MAX_COUNT)
    """How many of its first layers are not trained; with 1 or more, its token embeddings are not trained either."""
    datasets: Annotated[list[WeightedDatasetArguments], Field(min_length=1)]
    """Texts to learn from, a list of one or more data sets: dialogues, every turn with its label, or rows with `text`
    and `emotion`."""
    label_balance: float = Field(default=0.0, ge=0, le=1)
    """How much more the texts of rare labels count: the loss of a text is weighted by the number of texts with its
    label to the power of -`label_balance`. 0: all texts alike; 1: every label weighs the same in sum."""
    eval_datasets: Annotated[dict[str, LabeledDatasetArguments], AfterValidator(check_dataset_names)]
    """Held-out texts that the classifier is measured on, an object `{name: data set}` of one or more; the first one is
    the main one."""
    calibration: CalibrationArguments | None = None
    """Fits probabilities to held-out texts after training; null: they are the softmax of what the model computes."""
    trainer: dict[str, Any]
    """Fields of transformers' TrainingArguments."""
