"""The keys of the args files: one frozen, typed class per script. Imports no torch."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag

from response_generator.config.paths import resolve_path
from response_generator.config.ranges import MAX_SEED, MAX_WORKERS
from response_generator.config.sources import resolve_source
from response_generator.constants import EMOTIONS

LABELS_BY_ID, LABELS_BY_NAME = "by id", "by name"
MAX_SAMPLES_PER_PROMPT, MAX_RESAMPLES = 1000, 1_000_000

LocalPath = Annotated[str, AfterValidator(resolve_path)]
Source = Annotated[str, AfterValidator(resolve_source)]  # a hub id or a local path
BARE_BASE_MODEL = "none"


def resolve_baseline(name: str) -> str:
    return name if name == BARE_BASE_MODEL else resolve_source(name)


def check_split(name: str) -> str:
    if "/" in name or not name.strip():
        raise ValueError("a split is a name, such as train")
    return name


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True)


class ChatTemplateArguments(Section):
    file: LocalPath
    """File with the Jinja template."""
    special_tokens: dict[str, Any] = {}
    """Argument of the tokenizer's `add_special_tokens`, for example pad_token or additional_special_tokens."""
    required_markers: list[str] = []
    """Strings that every rendered prompt must contain; a run warns when one is missing."""
    system_prompt: str | None = None
    """A system message put before every dialogue."""


class DatasetArguments(Section):
    path: Source
    """A hub id (owner/name or owner/name@revision), a local .json, .jsonl or .parquet file, a folder of such files
    named after their split, or a folder written by `save_to_disk`."""
    name: str | None = None
    """Configuration name of a hub data set."""
    split: Annotated[str, AfterValidator(check_split)] = "train"
    """Split to read; ignored for a single local file."""
    revision: str | None = None
    """Branch, tag or commit of a hub data set; the same as @revision in its path."""
    num_proc: int | None = Field(default=None, ge=1, le=MAX_WORKERS)
    """Number of processes that load a hub data set."""
    limit: int | None = Field(default=None, ge=1)
    """Read only this many rows from the start."""
    skip_bad_rows: bool = False
    """true: leave out rows that cannot be used, and count them; false: stop and name these rows."""


class WandbArguments(Section):
    mode: Literal["online", "offline", "disabled"]
    """online needs WANDB_API_KEY (or `wandb login`); offline writes into the run folder; disabled turns wandb off."""
    project: str | None = None
    entity: str | None = None
    group: str | None = None
    job_type: str | None = None
    name: str | None = None
    notes: str | None = None
    tags: list[str] = []


# With the tags pydantic validates, and reports errors for, only the form that is given: list or object.
EmotionLabels = Annotated[
    Annotated[list[Literal[EMOTIONS]], Tag(LABELS_BY_ID)]
    | Annotated[dict[str, Literal[EMOTIONS]], Tag(LABELS_BY_NAME)],
    Discriminator(lambda labels: LABELS_BY_NAME if isinstance(labels, dict) else LABELS_BY_ID),
]


class ScoringArguments(Section):
    emotion_model: Source
    """Text-classification model (hub id or folder) for the emotion of a reply."""
    emotion_labels: EmotionLabels | None = None
    """Emotions of the classifier's labels: {label: emotion} for each label that is not an emotion name, or a list in
    the order of the label ids; null: every label is an emotion name."""
    gibberish_model: Source
    """Text-classification model that tells clean text from gibberish."""
    batch_size: int = Field(default=32, ge=1)
    """Replies per classification batch."""
    clean_up_tokenization_spaces: bool = False
    """Remove the space before punctuation for the classifiers only ("fine ." becomes "fine."); predictions.jsonl keeps
    it."""


class ModelArguments(Section):
    output_dir: LocalPath
    """Run folder."""
    seed: int = Field(ge=0, le=MAX_SEED)
    """Random seed of the whole run."""
    backend: Literal["unsloth", "transformers"]
    """Library that loads the model: unsloth (on CUDA or CPU), or transformers with bitsandbytes."""
    base_model: Source
    """Hub id (owner/name or owner/name@revision) or folder of the base model."""
    adapter: Source
    """Hub id or folder of the LoRA adapter that evaluate.py evaluates."""
    from_pretrained: dict[str, Any]
    """Keyword arguments of FastLanguageModel.from_pretrained (unsloth) or AutoModelForCausalLM (transformers)."""
    chat_template: ChatTemplateArguments
    """Template file, special tokens, required markers, system prompt."""
    dataset: DatasetArguments
    """Preference pairs (DPO) or dialogues (evaluate)."""
    wandb: WandbArguments
    """Tracking with wandb."""


class ExportArguments(Section):
    path: LocalPath
    """Folder for the merged model: base model and adapter as 16-bit safetensors."""
    base_model: Source | None = None
    """The 16-bit base model to merge the adapter into; null: base_model of the top level."""
    dtype: Literal["bfloat16", "float16"] = "bfloat16"
    """Data type of the merged weights."""


class HubArguments(Section):
    repo_id: str
    """owner/name on the hub; created if it does not exist."""
    private: bool = True
    """Whether a new repository is private."""


class DPOArguments(ModelArguments):
    adapter: Source | None
    """Hub id or folder of the LoRA adapter that training starts from; null: a new adapter from the section lora."""
    reference_adapter: Source | None = None
    """Adapter of the reference; null: a frozen copy of `adapter` (for a new LoRA adapter, the bare base model)."""
    lora: dict[str, Any] | None = None
    """Keywords of LoraConfig (PEFT) for a new adapter (adapter: null)."""
    eval_dataset: DatasetArguments | None = None
    """Held-out pairs, evaluated after training, and during training with dpo.eval_strategy."""
    dpo: dict[str, Any]
    """Fields of DPOConfig (TRL), and early_stopping_patience and early_stopping_threshold."""
    export: ExportArguments | None = None
    """Write a merged 16-bit model after training; null: do not."""
    push_to_hub: HubArguments | None = None
    """Upload the adapter to the hub after training, with the token in HF_TOKEN; null: do not."""


class PreferenceArguments(Section):
    dataset: DatasetArguments
    """Held-out preference pairs."""
    beta: float = Field(gt=0, le=1e6)
    """Factor of the implicit reward: beta * (log-probability by the adapter - log-probability by the baseline)."""


class EvaluateArguments(ModelArguments):
    baseline_adapter: Annotated[str, AfterValidator(resolve_baseline)] | None = None
    """Second model for the same prompts: an adapter, or "none" for the bare base model; null: no baseline."""
    batch_size: int = Field(ge=1)
    """Prompts per generation batch."""
    samples_per_prompt: int = Field(default=1, ge=1, le=MAX_SAMPLES_PER_PROMPT)
    """Replies per prompt; the confidence intervals resample prompts, not replies."""
    generation: dict[str, Any]
    """Fields of GenerationConfig (transformers); the pad and EOS tokens come from the tokenizer."""
    scoring: ScoringArguments
    """The classifiers that score the replies."""
    preferences: PreferenceArguments | None = None
    """Held-out pairs for measuring the adapter's implicit reward over the baseline; null: do not measure."""
    bootstrap_resamples: int = Field(default=10_000, ge=100, le=MAX_RESAMPLES)
    """Bootstrap resamples of the prompts for the 95 % confidence intervals."""
