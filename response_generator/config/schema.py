"""What the args files may say: one frozen, typed object a script. Nothing here imports torch."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag

from response_generator.config.paths import resolve_path
from response_generator.config.ranges import MAX_SEED, MAX_WORKERS
from response_generator.config.sources import resolve_source
from response_generator.constants import EMOTIONS

LABELS_BY_ID, LABELS_BY_NAME = "by id", "by name"
MAX_SAMPLES_PER_PROMPT, MAX_RESAMPLES = 1000, 1_000_000

LocalPath = Annotated[str, AfterValidator(resolve_path)]  # of this machine
Source = Annotated[str, AfterValidator(resolve_source)]  # a hub id, or a path of this machine
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
    """The Jinja template (a file)."""
    special_tokens: dict[str, Any] = {}
    """Tokens to add to the tokenizer, in the words of `add_special_tokens`: pad_token, additional_special_tokens …"""
    required_markers: list[str] = []
    """Strings every rendered prompt must hold; a run says so when one is missing."""
    system_prompt: str | None = None
    """A system message put before every dialogue."""


class DatasetArguments(Section):
    path: Source
    """A hub id (owner/name or owner/name@revision), a local .json, .jsonl or .parquet file, or a folder of such files
    named after their split."""
    name: str | None = None
    """Configuration of a hub data set."""
    split: Annotated[str, AfterValidator(check_split)] = "train"
    """Split to read; a single local file is one split, whatever it is called."""
    revision: str | None = None
    """Branch, tag or commit of a hub data set; the same as @revision in its path."""
    num_proc: int | None = Field(default=None, ge=1, le=MAX_WORKERS)
    """Processes that load a hub data set."""
    limit: int | None = Field(default=None, ge=1)
    """Read only the first rows."""
    skip_bad_rows: bool = False
    """Leave out rows that cannot be used, and count them; false: refuse the data set, and name them."""


class WandbArguments(Section):
    mode: Literal["online", "offline", "disabled"]
    """online needs WANDB_API_KEY (or `wandb login`); offline writes into the run folder; disabled tracks nothing."""
    project: str | None = None
    entity: str | None = None
    group: str | None = None
    job_type: str | None = None
    name: str | None = None
    notes: str | None = None
    tags: list[str] = []


# The tags keep pydantic from trying, and reporting, both.
EmotionLabels = Annotated[
    Annotated[list[Literal[EMOTIONS]], Tag(LABELS_BY_ID)]
    | Annotated[dict[str, Literal[EMOTIONS]], Tag(LABELS_BY_NAME)],
    Discriminator(lambda labels: LABELS_BY_NAME if isinstance(labels, dict) else LABELS_BY_ID),
]


class ScoringArguments(Section):
    emotion_model: Source
    """Text-classification model (hub id or folder) that names a reply's emotion."""
    emotion_labels: EmotionLabels | None = None
    """The emotion of each of the classifier's labels, by name or as a list in the order of ids; null: its own names."""
    gibberish_model: Source
    """Text-classification model that tells clean text from gibberish."""
    batch_size: int = Field(default=32, ge=1)
    """Replies classified at once."""
    clean_up_tokenization_spaces: bool = False
    """Classify "fine." where the text is "fine ."; the file of predictions keeps the text as it is."""


class ModelArguments(Section):
    output_dir: LocalPath
    """Run folder."""
    seed: int = Field(ge=0, le=MAX_SEED)
    """One seed for everything."""
    backend: Literal["unsloth", "transformers"]
    """Which loader: unsloth (CUDA or its CPU backend), or plain transformers with bitsandbytes."""
    base_model: Source
    """Hub id (owner/name or owner/name@revision) or folder of the base model."""
    adapter: Source
    """Hub id or folder of the LoRA adapter: what DPO starts from, what evaluate.py evaluates."""
    from_pretrained: dict[str, Any]
    """Keyword arguments of FastLanguageModel.from_pretrained (unsloth) or AutoModelForCausalLM (transformers)."""
    chat_template: ChatTemplateArguments
    """Template file, special tokens, required markers, system prompt."""
    dataset: DatasetArguments
    """Preference pairs (DPO) or dialogues (evaluate)."""
    wandb: WandbArguments
    """Tracking."""


class ExportArguments(Section):
    path: LocalPath
    """Folder of the merged model: base and adapter in one, 16-bit safetensors."""
    base_model: Source | None = None
    """The 16-bit base to merge into; null: base_model."""
    dtype: Literal["bfloat16", "float16"] = "bfloat16"
    """Of the merged weights."""


class HubArguments(Section):
    repo_id: str
    """owner/name on the hub; created when it is not there."""
    private: bool = True
    """Of a repository that is created."""


class DPOArguments(ModelArguments):
    adapter: Source | None
    """Hub id or folder of the LoRA adapter that DPO starts from; null: a new one, made from the section lora."""
    reference_adapter: Source | None = None
    """What policy is compared with; null: a frozen copy of `adapter` (for a new LoRA that is the bare base)."""
    lora: dict[str, Any] | None = None
    """Keywords of PEFT's LoraConfig, when adapter is null."""
    eval_dataset: DatasetArguments | None = None
    """Held-out pairs, measured after training, and while training with dpo.eval_strategy."""
    dpo: dict[str, Any]
    """Any field of TRL's DPOConfig; also early_stopping_patience and early_stopping_threshold."""
    export: ExportArguments | None = None
    """Merged 16-bit model, written after training; null: none."""
    push_to_hub: HubArguments | None = None
    """Where the adapter goes after training, with the token in HF_TOKEN; null: nowhere."""


class PreferenceArguments(Section):
    dataset: DatasetArguments
    """Held-out preference pairs."""
    beta: float = Field(gt=0, le=1e6)
    """Of the implicit reward: beta times the log-probability that a reply gains over the baseline."""


class EvaluateArguments(ModelArguments):
    baseline_adapter: Annotated[str, AfterValidator(resolve_baseline)] | None = None
    """null: no baseline; "none": the bare base model; else a second adapter, evaluated on the same prompts."""
    batch_size: int = Field(ge=1)
    """Prompts generated at once."""
    samples_per_prompt: int = Field(default=1, ge=1, le=MAX_SAMPLES_PER_PROMPT)
    """Replies drawn to every prompt; intervals then resample prompts, not replies."""
    generation: dict[str, Any]
    """Any field of transformers' GenerationConfig; pad and eos come from the tokenizer."""
    scoring: ScoringArguments
    """The classifiers that judge the replies."""
    preferences: PreferenceArguments | None = None
    """Held-out pairs on which the adapter's implicit reward against the baseline is measured; null: none."""
    bootstrap_resamples: int = Field(default=10_000, ge=100, le=MAX_RESAMPLES)
    """Resamples of the prompts from which the 95 % intervals are read."""
