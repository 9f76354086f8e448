"""The arguments of the programs as frozen, typed classes. Nothing here imports torch.

The docstring below each field is its description in `--help` and in docs/configuration.md. After a change run

    python -m response_generator.config.documentation
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from response_generator.config.dataset_schema import DatasetArguments, EvaluationDatasetArguments, PairDatasetArguments
from response_generator.config.library.key_rule import MAX_NUMBER, MAX_SAMPLES_PER_PROMPT, MAX_SEED
from response_generator.config.scoring_schema import (
    EvaluationBestOfArguments,
    EvaluationScoringArguments,
    ScoringArguments,
)
from response_generator.config.section import (
    AdapterName,
    AdapterOrBaseName,
    BaseModelName,
    LocalPath,
    Section,
    integer_or,
)
from response_generator.labels import DAILY_DIALOG_EMOTIONS, Labels

MAX_RESAMPLES = 1_000_000
MAX_LABELS, MAX_LABEL_CHARACTERS = 100, 40
MAX_CONCURRENCY, MAX_TIMEOUT_SECONDS = 4096, 86_400
AUTO_BATCH_SIZE = "auto"
BY_SERVER = "server"  # the generation_method


def check_labels(labels: list[str]) -> list[str]:
    usable = all(
        name.strip() == name and name.isprintable() and 0 < len(name) <= MAX_LABEL_CHARACTERS for name in labels
    )
    if len(labels) == 1 or len(labels) > MAX_LABELS or len(set(labels)) < len(labels) or not usable:
        raise ValueError(
            f"needed: 2 to {MAX_LABELS} different names of up to {MAX_LABEL_CHARACTERS} printable characters, without "
            f"spaces at their ends; or [] for data without labels"
        )
    return labels


class LabelArguments(Section):
    labels: Annotated[list[str], AfterValidator(check_labels)] = list(DAILY_DIALOG_EMOTIONS)
    """Labels that a reply can have, such as emotions: two or more; []: the data has none."""
    neutral_label: str = "neutral"
    """The label that stands for no particular one. Figures "without neutral" leave it out; without such a label there
    are none."""

    @property
    def label_set(self) -> Labels:
        return Labels(tuple(self.labels), self.neutral_label if self.neutral_label in self.labels else None)


class ChatTemplateArguments(Section):
    file: LocalPath | None = None
    """Path of the Jinja template; null: the one of the tokenizer, which is that of the adapter where it has one."""
    special_tokens: dict[str, Any] = {}
    """Tokens to add to the tokenizer, with the keys of `add_special_tokens`, such as `pad_token`."""
    required_markers: list[str] = []
    """Strings that every rendered prompt should contain. The run prints how many prompts lack one."""
    system_prompt: str | None = None
    """System message that is put before every dialogue; null: none."""


class WandbArguments(Section):
    mode: Literal["auto", "online", "offline", "disabled"]
    """`online` needs WANDB_API_KEY or an earlier `wandb login`; `offline` writes into the run folder; `auto`: `online`
    if there is such a key, else `offline`."""
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


class LoadingArguments(LabelArguments):
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


class HeldOutPairArguments(Section):
    dataset: PairDatasetArguments
    """Held-out preference pairs, with the same keys as the section `dataset`."""
    beta: float = Field(gt=0, le=MAX_NUMBER)
    """Scale of the implicit reward, which is beta times (log-probability under the adapter - under the baseline)."""


class ServerArguments(Section):
    """An OpenAI-compatible server, such as vLLM, that writes the replies."""

    url: str
    """Address of the server, such as `http://localhost:8000`."""
    concurrency: int = Field(default=64, ge=1, le=MAX_CONCURRENCY)
    """Prompts that the server works on at once, each with all of its replies."""
    timeout: int = Field(default=600, ge=1, le=MAX_TIMEOUT_SECONDS)
    """Seconds after which a prompt that the server has not answered is sent again."""
    api_key_env: str | None = None
    """Name of the environment variable that holds the server's API key, such as `VLLM_API_KEY`; null: it needs none.
    The key itself is written nowhere."""
    send_seed: bool = False
    """true: send a seed made of `seed` with each prompt, so that a server that keeps it writes the same reply again.
    vLLM without a GPU ends at a seed."""
    logprobs: bool = True
    """true: ask for the log-probabilities of gold replies and held-out pairs. vLLM without a GPU ends where it is asked
    for those under a LoRA adapter beside other requests; set false there, or `concurrency` 1."""


class GenerationServerArguments(ServerArguments):
    model: str = Field(min_length=1)
    """What the server calls the model with the adapter."""
    compare_with_local: bool = False
    """true: load the model here, too, before the first reply, and note how far the server's log-probabilities are from
    it. Needs the memory of the model."""


class EvaluationServerArguments(GenerationServerArguments):
    baseline_model: str | None = Field(default=None, min_length=1)
    """evaluate.py: what the server calls the model with `baseline_adapter`, or the base model for "none"; null: there
    is no baseline."""


class GenerationArguments(ModelArguments):
    dataset: DatasetArguments
    """The dialogues."""
    batch_size: integer_or(AUTO_BATCH_SIZE)
    """Replies that are generated at once; "auto": as many tokens as the run finds to be fastest within memory. A server
    decides that itself."""
    generation_method: Literal["auto", "generate", BY_SERVER] = "auto"
    """`auto`: a prompt is computed once, and the replies are independent of their batch; `generate`: transformers' or
    unsloth's own `generate`, which `auto` also uses where the settings or the model need it; `server`: the server of
    the section `server` writes them, and the base model is not loaded here."""
    server: GenerationServerArguments | None = None
    """The server for `generation_method: "server"`; null: none."""
    generation: dict[str, Any]
    """Fields of transformers' GenerationConfig. The pad and EOS ids are the tokenizer's."""
    scoring: ScoringArguments = ScoringArguments()
    """The emotion classifier and the gibberish classifier. A metric whose classifier is not named is left out."""


class EvaluateArguments(GenerationArguments):
    dataset: EvaluationDatasetArguments
    """The dialogues."""
    server: EvaluationServerArguments | None = None
    """The server for `generation_method: "server"`; null: none."""
    baseline_adapter: AdapterOrBaseName | None = None
    """Model to compare with: an adapter (hub id or folder), or "none" for the bare base model; null: none."""
    samples_per_prompt: int = Field(default=1, ge=1, le=MAX_SAMPLES_PER_PROMPT)
    """Replies sampled for each prompt and target. More than 1 needs `generation.do_sample: true`."""
    best_of: EvaluationBestOfArguments | None = None
    """What a user could do instead of training: sample several replies and keep the best one. null: no such row."""
    heldout_pairs: HeldOutPairArguments | None = None
    """Held-out pairs for the reward accuracy of the adapter against the baseline; null: none."""
    scoring: EvaluationScoringArguments = EvaluationScoringArguments()
    """Classifiers, word lists and a language model. A metric that needs one that is not named is left out."""
    bootstrap_resamples: int = Field(default=10_000, ge=100, le=MAX_RESAMPLES)
    """Bootstrap resamples of the prompts behind each 95 % interval."""
