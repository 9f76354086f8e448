"""Checks an args file against what the scripts and the pinned libraries accept, and tells every fault at once."""

from difflib import get_close_matches
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from response_generator import library_keywords
from response_generator.arguments import ModelArguments
from response_generator.errors import InputError

KEYWORD_SECTIONS = ("dpo", "lora", "generation", "from_pretrained")
LOSS_TYPES = (
    "sigmoid hinge ipo exo_pair nca_pair robust bco_pair sppo_hard aot aot_unpaired apo_zero apo_down discopop sft "
    "sigmoid_norm"
).split()
F_DIVERGENCES = ("reverse_kl", "forward_kl", "js_divergence", "alpha_divergence")
HELD_OUT_METRICS = (
    "loss rewards/chosen rewards/rejected rewards/accuracies rewards/margins logps/chosen logps/rejected "
    "logits/chosen logits/rejected mean_token_accuracy entropy"
).split()
OWNED_ELSEWHERE = {
    "output_dir": "write it at the top level",
    "seed": "write it at the top level",
    "report_to": "the section wandb decides that",
    "pad_token_id": "it is the tokenizer's",
    "eos_token_id": "it is the tokenizer's",
    "token": "a token never belongs in a file: set HF_TOKEN in the environment",
    "push_to_hub": "write the section push_to_hub at the top level",
    "hub_model_id": "write push_to_hub.repo_id at the top level",
    "resume_from_checkpoint": "run the same command again: it resumes by itself",
}
NAMES_OF_THE_SEED = {
    "model_adapter_name": "TRL has no such field any more: the trained adapter is always called 'default'",
    "ref_adapter_name": "TRL has no such field any more: the frozen adapter is always called 'ref'",
}


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
        faults += adapter_conflicts(values)
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
    if dpo.get("early_stopping_patience") is not None:
        if dpo.get("eval_strategy", "no") == "no" or not dpo.get("load_best_model_at_end"):
            faults.append("dpo.early_stopping_patience: needs dpo.eval_strategy and dpo.load_best_model_at_end: true")
    if dpo.get("load_best_model_at_end") and dpo.get("eval_strategy", "no") == "no":
        faults.append('dpo.load_best_model_at_end: needs dpo.eval_strategy, for example "steps"')
    if dpo.get("save_only_model"):
        faults.append("dpo.save_only_model: such a checkpoint cannot be resumed from; remove the key")
    metric = dpo.get("metric_for_best_model")
    if metric is not None and str(metric).removeprefix("eval_") not in HELD_OUT_METRICS:
        faults.append(f"dpo.metric_for_best_model: got {shown(metric)}; allowed: {', '.join(HELD_OUT_METRICS)}")
    if dpo.get("auto_find_batch_size"):
        faults.append("dpo.auto_find_batch_size: it would change the batch, and the results, in mid-run; remove it")
    if dpo.get("ignore_data_skip"):
        faults.append("dpo.ignore_data_skip: a resumed run would see other pairs than an uninterrupted one; remove it")
    return faults


def adapter_conflicts(values: dict[str, Any]) -> list[str]:
    """Training starts from an adapter, or from a new LoRA that changes nothing yet: never from both, or neither."""
    lora = values.get("lora")
    if "adapter" in values and values["adapter"] is None and lora is None:
        return ['adapter: null needs the section lora, for example {"r": 16, "lora_alpha": 16}']
    if values.get("adapter") is not None and lora is not None:
        return ["lora: only for a new adapter (adapter: null); this one brings its own settings; remove one of the two"]
    faults = []
    if isinstance(lora, dict):
        if lora.get("bias", "none") != "none":
            faults.append('lora.bias: allowed: "none"; other biases are outside the adapter, and the reference is not')
        if lora.get("init_lora_weights", True) not in (True, "gaussian"):
            faults.append(
                'lora.init_lora_weights: allowed: true, "gaussian"; with others the reference is not the bare base'
            )
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
