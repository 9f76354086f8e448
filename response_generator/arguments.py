"""What the args files may say: one frozen, typed object a script. Nothing here imports torch."""

from difflib import get_close_matches
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from response_generator import library_keywords
from response_generator.emotions import EMOTIONS
from response_generator.errors import InputError

KEYWORD_SECTIONS = ("dpo", "generation", "from_pretrained")
LOSS_TYPES = (
    "sigmoid hinge ipo exo_pair nca_pair robust bco_pair sppo_hard aot aot_unpaired apo_zero apo_down discopop sft "
    "sigmoid_norm"
).split()
F_DIVERGENCES = ("reverse_kl", "forward_kl", "js_divergence", "alpha_divergence")
OWNED_ELSEWHERE = {
    "output_dir": "write it at the top level",
    "seed": "write it at the top level",
    "report_to": "the section wandb decides that",
    "pad_token_id": "it is the tokenizer's",
    "eos_token_id": "it is the tokenizer's",
    "token": "a token never belongs in a file: set HF_TOKEN in the environment",
    "resume_from_checkpoint": "run the same command again: it resumes by itself",
}
NAMES_OF_THE_SEED = {
    "model_adapter_name": "TRL has no such field any more: the trained adapter is always called 'default'",
    "ref_adapter_name": "TRL has no such field any more: the frozen adapter is always called 'ref'",
}


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True)


class ChatTemplateArguments(Section):
    file: str
    """The Jinja template (a file)."""
    special_tokens: dict[str, Any] = {}
    """Tokens to add to the tokenizer, in the words of `add_special_tokens`: pad_token, additional_special_tokens …"""
    marks: list[str] = []
    """Strings every rendered prompt must hold; a run says so when one is missing."""
    system_prompt: str | None = None
    """A system message put before every dialogue."""


class DatasetArguments(Section):
    path: str
    """A hub id, or a local .json, .jsonl or .parquet file, or a folder of such files named after their split."""
    name: str | None = None
    """Configuration of a hub data set."""
    split: str = "train"
    """Split to read; a single local file is one split, whatever it is called."""
    revision: str | None = None
    """Branch, tag or commit of a hub data set."""
    num_proc: int | None = Field(default=None, ge=1)
    """Processes that load a hub data set."""
    limit: int | None = Field(default=None, ge=1)
    """Read only the first rows."""


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


class ScoringArguments(Section):
    emotion_model: str
    """Text-classification model (hub id or folder) that names a reply's emotion."""
    emotion_labels: list[Literal[EMOTIONS]] | None = None
    """Emotions in the order of the classifier's ids; null: the names in its own config."""
    gibberish_model: str
    """Text-classification model that tells clean text from gibberish."""
    batch_size: int = Field(default=32, ge=1)
    """Replies classified at once."""


class ModelArguments(Section):
    output_dir: str
    """Run folder."""
    seed: int = Field(ge=0)
    """One seed for everything."""
    backend: Literal["unsloth", "transformers"]
    """Which loader: unsloth (CUDA or its CPU backend), or plain transformers with bitsandbytes."""
    base_model: str
    """Hub id or folder of the base model."""
    adapter: str
    """Hub id or folder of the LoRA adapter: what DPO starts from, what evaluate.py evaluates."""
    from_pretrained: dict[str, Any]
    """Keyword arguments of FastLanguageModel.from_pretrained (unsloth) or AutoModelForCausalLM (transformers)."""
    chat_template: ChatTemplateArguments
    """Template file, special tokens, marks, system prompt."""
    dataset: DatasetArguments
    """Preference pairs (DPO) or dialogues (evaluate)."""
    wandb: WandbArguments
    """Tracking."""


class DPOArguments(ModelArguments):
    eval_dataset: DatasetArguments | None = None
    """Held-out pairs; after training the run measures how often the adapter prefers `chosen` on them."""
    dpo: dict[str, Any]
    """Any field of TRL's DPOConfig."""


class EvaluateArguments(ModelArguments):
    baseline_adapter: str | None = None
    """null: no baseline; "none": the bare base model; else a second adapter, evaluated on the same prompts."""
    batch_size: int = Field(ge=1)
    """Prompts generated at once."""
    generation: dict[str, Any]
    """Any field of transformers' GenerationConfig; pad and eos come from the tokenizer."""
    scoring: ScoringArguments
    """The classifiers that judge the replies."""


Arguments = TypeVar("Arguments", bound=ModelArguments)


def validated(model: type[Arguments], values: dict[str, Any], file: str) -> Arguments:
    """Builds the arguments of a script.

    Raises:
        InputError: with every fault of the file at once.
    """
    faults = []
    arguments = None
    try:
        arguments = model.model_validate(values)
    except ValidationError as error:
        faults += [fault_line(model, fault) for fault in error.errors()]
    for section in KEYWORD_SECTIONS:
        if section in model.model_fields and isinstance(values.get(section), dict):
            faults += keyword_faults(section, values[section])
    if isinstance(values.get("dpo"), dict):
        faults += dpo_conflicts(values["dpo"], has_eval_dataset=bool(values.get("eval_dataset")))
    if faults:
        raise InputError(*(f"{file}: {fault}" for fault in faults))
    return arguments


def fault_line(model: type[BaseModel], fault: dict) -> str:
    """One pydantic error in our words: key, value received, what is allowed, what was perhaps meant."""
    key = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        return unknown_key(key, list(section_of(model, fault["loc"]).model_fields))
    if fault["type"] == "missing":
        return f"{key}: missing; it has no default"
    allowed = fault["msg"].replace("Input should be ", "").replace("a valid ", "")
    return f"{key}: got {shown(fault['input'])}; allowed: {allowed}"


def section_of(model: type[BaseModel], location: tuple) -> type[BaseModel]:
    for part in location[:-1]:
        annotation = model.model_fields[part].annotation
        members = [annotation, *getattr(annotation, "__args__", ())]
        model = next(member for member in members if isinstance(member, type) and issubclass(member, BaseModel))
    return model


def keyword_faults(section: str, values: dict[str, Any]) -> list[str]:
    """Checks a section whose keys are a library's own keywords: their names, and the kinds of their values."""
    accepted = library_keywords.accepted_kinds(section)
    faults = []
    for key, value in values.items():
        kinds = accepted.get(key)
        if kinds is None:
            faults.append(unknown_key(f"{section}.{key}", list(accepted)))
        elif kinds and library_keywords.kind_of(value) not in kinds:
            if not (library_keywords.kind_of(value) == "integer" and "number" in kinds):
                faults.append(f"{section}.{key}: got {shown(value)}; allowed: {' or '.join(kinds)}")
    return faults


def dpo_conflicts(dpo: dict[str, Any], has_eval_dataset: bool) -> list[str]:
    """What TRL would refuse only once the model is loaded."""
    faults = []
    loss_types = dpo.get("loss_type", ["sigmoid"])
    if isinstance(loss_types, list):
        unknown = [name for name in loss_types if name not in LOSS_TYPES]
        faults += [f"dpo.loss_type: got {shown(name)}; allowed: {', '.join(LOSS_TYPES)}" for name in unknown]
        if "exo_pair" in loss_types and not dpo.get("label_smoothing"):
            faults.append("dpo.label_smoothing: the loss exo_pair needs more than 0, for example 0.001")
    if dpo.get("f_divergence_type", F_DIVERGENCES[0]) not in F_DIVERGENCES:
        faults.append(f"dpo.f_divergence_type: allowed: {', '.join(F_DIVERGENCES)}")
    if dpo.get("truncation_mode", "keep_start") != "keep_start":
        faults.append('dpo.truncation_mode: allowed: "keep_start"; TRL gives up the other one')
    if dpo.get("sync_ref_model"):
        faults.append("dpo.sync_ref_model: TRL cannot do it with an adapter; remove the key")
    if dpo.get("eval_strategy", "no") != "no" and not has_eval_dataset:
        faults.append("dpo.eval_strategy: needs held-out pairs; name an eval_dataset")
    return faults


def unknown_key(path: str, known: list[str]) -> str:
    key = path.rpartition(".")[2]
    if key in NAMES_OF_THE_SEED:
        return f"{path}: {NAMES_OF_THE_SEED[key]}; remove the key"
    if key in OWNED_ELSEWHERE:
        return f"{path}: not allowed here; {OWNED_ELSEWHERE[key]}"
    near = get_close_matches(key, known, n=1)
    hint = f'did you mean "{near[0]}"?' if near else f"allowed: {', '.join(sorted(known)[:30])}"
    return f"{path}: unknown key; {hint}"


def shown(value: Any) -> str:
    text = repr(value)
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({library_keywords.kind_of(value)})"
