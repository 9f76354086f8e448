"""The arguments of the programs as frozen, typed classes. Nothing here imports torch.

The docstring below each field is its description in `--help` and in docs/configuration.md. After a change run

    python -m response_generator.config.documentation
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, WithJsonSchema

from response_generator.config.key_rule import MAX_COUNT, MAX_NUMBER, MAX_SEED, MAX_WORKERS
from response_generator.config.paths import resolve_path
from response_generator.config.sources import SourceKind, resolve_source
from response_generator.constants import EMOTIONS

LABELS_BY_ID, LABELS_BY_NAME = "by id", "by name"
MAX_SAMPLES_PER_PROMPT, MAX_RESAMPLES = 1000, 1_000_000

LocalPath = Annotated[str, AfterValidator(resolve_path)]
BARE_BASE_MODEL = "none"
AUTO_BATCH_SIZE = "auto"


def resolve_adapter(name: str) -> str:
    return name if name == BARE_BASE_MODEL else resolve_source(name)


# Hub ids or local paths. The kind is for `source_list.list_sources`, which finds every one of them in the args.
SourceName = Annotated[str, AfterValidator(resolve_source)]
BaseModelName = Annotated[SourceName, SourceKind.BASE_MODEL]
ClassifierName = Annotated[SourceName, SourceKind.CLASSIFIER]
AdapterName = Annotated[SourceName, SourceKind.ADAPTER]
AdapterOrBaseName = Annotated[str, AfterValidator(resolve_adapter), SourceKind.ADAPTER_OR_BASE]


def check_split(name: str) -> str:
    if "/" in name or not name.strip():
        raise ValueError("a split is a name, such as train")
    return name


def check_batch_size(size: Any) -> Any:
    if size != AUTO_BATCH_SIZE and not (type(size) is int and size >= 1):
        raise ValueError('allowed: an integer from 1, or "auto"')
    return size


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True)


class ChatTemplateArguments(Section):
    file: LocalPath
    """Path of the Jinja template."""
    special_tokens: dict[str, Any] = {}
    """Tokens to add to the tokenizer, with the keys of `add_special_tokens`, such as `pad_token`."""
    required_markers: list[str] = []
    """Strings that every rendered prompt should contain. The run prints how many prompts lack one."""
    system_prompt: str | None = None
    """System message that is put before every dialogue; null: none."""


class DatasetArguments(Section):
    """A data set of dialogues."""

    path: Annotated[SourceName, SourceKind.DATASET]
    """Hub id (`owner/name` or `owner/name@revision`), a local .json, .jsonl or .parquet file, a folder of such files
    named after their split, or a folder written by `save_to_disk`."""
    name: str | None = Field(default=None, min_length=1)
    """Configuration name of a hub data set."""
    split: Annotated[str, AfterValidator(check_split)] = "train"
    """Split to read. It is ignored for a single local file."""
    revision: str | None = Field(default=None, min_length=1)
    """Branch, tag or commit of a hub data set. `@revision` in `path` does the same."""
    num_proc: int | None = Field(default=None, ge=1, le=MAX_WORKERS)
    """Number of processes that load a hub data set."""
    offset: int = Field(default=0, ge=0, le=MAX_COUNT)
    """Leave out this many rows at the start."""
    limit: int | None = Field(default=None, ge=1)
    """Read only this many rows, from `offset` on; null: all."""
    skip_bad_rows: bool = False
    """true: leave out rows that cannot be used, and count them. false: stop with an error that lists them."""


class FilterArguments(Section):
    """Filters of preference pairs, in the order in which they are applied."""

    min_margin: float | None = Field(default=None, ge=-MAX_NUMBER, le=MAX_NUMBER)
    """Least `chosen_score - rejected_score`; null: any."""
    min_chosen_score: float | None = Field(default=None, ge=-MAX_NUMBER, le=MAX_NUMBER)
    """Least `chosen_score`; null: any."""
    max_rejected_score: float | None = Field(default=None, ge=-MAX_NUMBER, le=MAX_NUMBER)
    """Greatest `rejected_score`; null: any."""
    min_characters: int | None = Field(default=None, ge=1, le=MAX_COUNT)
    """Least length of either reply; null: any."""
    max_characters: int | None = Field(default=None, ge=1, le=MAX_COUNT)
    """Greatest length of either reply; null: any."""
    chosen_ends_with_punctuation: bool = False
    """Keep only pairs whose chosen reply ends with `.`, `!` or `?`, that is, is not cut off."""
    chosen_has_target_emotion: bool = False
    """Keep only pairs whose chosen reply has the target emotion according to the emotion classifier."""
    chosen_gibberish_labels: list[str] | None = None
    """Keep only pairs whose chosen reply has one of these labels of the gibberish classifier; null: any."""
    min_chosen_gibberish_score: float | None = Field(default=None, ge=0, le=1)
    """Least probability of that label; null: any."""
    drop_duplicates: Literal["exact", "near"] | None = None
    """`exact`: keep the first of pairs with the same prompt and replies; `near`: also of pairs whose prompt, chosen and
    rejected reply each share 80 % of their sequences of three words; null: keep all."""
    max_pairs_per_prompt: int | None = Field(default=None, ge=1, le=MAX_COUNT)
    """Keep only this many pairs of a prompt, those with the greatest margin; null: all."""


class PairDatasetArguments(DatasetArguments):
    """A data set of preference pairs."""


class FilteredPairDatasetArguments(PairDatasetArguments):
    filters: FilterArguments = FilterArguments()
    """Filters of the pairs."""


class WandbArguments(Section):
    mode: Literal["online", "offline", "disabled"]
    """`online` needs WANDB_API_KEY or an earlier `wandb login`; `offline` writes into the run folder."""
    project: str | None = None
    """wandb project."""
    entity: str | None = None
    """wandb user or team; null: your default one."""
    group: str | None = None
    """Group of the run."""
    job_type: str | None = None
    """Job type of the run."""
    name: str | None = None
    """Name of the run; null: wandb chooses one."""
    notes: str | None = None
    """Description of the run."""
    tags: list[str] = []
    """Tags of the run."""


# With the tags pydantic validates, and reports errors for, only the form that is given: list or object.
EmotionLabels = Annotated[
    Annotated[list[Literal[EMOTIONS]], Tag(LABELS_BY_ID)]
    | Annotated[dict[str, Literal[EMOTIONS]], Tag(LABELS_BY_NAME)],
    Discriminator(lambda labels: LABELS_BY_NAME if isinstance(labels, dict) else LABELS_BY_ID),
]


class ScoringArguments(Section):
    emotion_model: ClassifierName
    """Text-classification model (hub id or folder) that predicts the emotion of a reply."""
    emotion_labels: EmotionLabels | None = None
    """Emotions of the classifier's labels: an object `{label: emotion}` for labels that are no emotion names, or a list
    in the order of the label ids; null: every label is an emotion name."""
    gibberish_model: ClassifierName
    """Text-classification model (hub id or folder) that tells clean text from gibberish."""
    batch_size: int = Field(default=32, ge=1)
    """Replies per batch of the classifiers."""
    clean_up_tokenization_spaces: bool = False
    """Remove the space before punctuation before classifying (`fine .` becomes `fine.`), as the authors did.
    predictions.jsonl keeps the text as it was generated."""


class LoadingArguments(Section):
    """What every program that loads the base model needs."""

    seed: int = Field(ge=0, le=MAX_SEED)
    """Random seed of the whole run."""
    backend: Literal["unsloth", "transformers"]
    """Loader: `unsloth` (CUDA, or its CPU backend), or `transformers` with bitsandbytes (training then needs CUDA)."""
    base_model: BaseModelName
    """Base model: hub id (`owner/name` or `owner/name@revision`) or folder."""
    from_pretrained: dict[str, Any]
    """Keyword arguments of `from_pretrained`, of FastLanguageModel (unsloth) or AutoModelForCausalLM (transformers)."""
    chat_template: ChatTemplateArguments
    """Chat template, special tokens, required markers and system prompt."""


class ModelArguments(LoadingArguments):
    output_dir: LocalPath
    """Run folder. All files of the run are written there."""
    adapter: AdapterName
    """LoRA adapter that is evaluated: hub id or folder."""
    dataset: DatasetArguments
    """The data."""
    wandb: WandbArguments
    """Tracking with wandb."""


class HubArguments(Section):
    repo_id: str
    """Repository on the hub, `owner/name`. It is created if it does not exist."""
    private: bool = True
    """Whether a repository that is created is private."""


class PreferenceArguments(Section):
    dataset: PairDatasetArguments
    """Held-out preference pairs, with the same keys as the section `dataset`."""
    beta: float = Field(gt=0, le=MAX_NUMBER)
    """Scale of the implicit reward, which is beta times (log-probability under the adapter - under the baseline)."""


class GenerationArguments(ModelArguments):
    dataset: DatasetArguments
    """The dialogues."""
    batch_size: Annotated[
        int | Literal[AUTO_BATCH_SIZE],
        BeforeValidator(check_batch_size),
        WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1}, {"type": "string", "enum": [AUTO_BATCH_SIZE]}]}),
    ]
    """Replies that are generated at once; "auto": as many tokens as the run finds to be fastest within memory."""
    generation_method: Literal["auto", "generate"] = "auto"
    """`auto`: a prompt is computed once, and the replies are independent of their batch; `generate`: transformers' or
    unsloth's own `generate`, which `auto` also uses where the settings or the model need it."""
    generation: dict[str, Any]
    """Fields of transformers' GenerationConfig. The pad and EOS ids are the tokenizer's."""
    scoring: ScoringArguments
    """The emotion classifier and the gibberish classifier."""


class EvaluateArguments(GenerationArguments):
    baseline_adapter: AdapterOrBaseName | None = None
    """Model to compare with: an adapter (hub id or folder), or "none" for the bare base model; null: none."""
    samples_per_prompt: int = Field(default=1, ge=1, le=MAX_SAMPLES_PER_PROMPT)
    """Replies sampled for each prompt. More than 1 needs `generation.do_sample: true`."""
    preferences: PreferenceArguments | None = None
    """Held-out pairs for the reward accuracy of the adapter against the baseline; null: none."""
    bootstrap_resamples: int = Field(default=10_000, ge=100, le=MAX_RESAMPLES)
    """Bootstrap resamples of the prompts behind each 95 % interval."""
