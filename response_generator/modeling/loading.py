"""Finds the adapters that are trained or evaluated on a base model, and loads the policy of a training."""

import re

from peft import LoraConfig, PeftModel, get_peft_model
from peft.utils.constants import INCLUDE_LINEAR_LAYERS_SHORTHAND as ALL_LINEAR
from torch import nn
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    set_seed,
)

from response_generator.config.library import library_keywords
from response_generator.config.schema import LoadingArguments
from response_generator.config.sources import find_hub_revision, strip_local_folders
from response_generator.config.training_schema import AdapterTrainingArguments, DPOArguments
from response_generator.constants import POLICY_ADAPTER
from response_generator.errors import InputError
from response_generator.modeling.adapter_file import EMBEDDING_MODULES, AdapterFile
from response_generator.modeling.adapters import add_adapter
from response_generator.modeling.backend import has_unsloth_forward, has_unsloth_gpu_code, import_unsloth
from response_generator.modeling.base_config import build_meta_model, check_loading, load_config
from response_generator.modeling.base_model import load_base
from response_generator.modeling.module_patterns import find_pattern_errors
from response_generator.modeling.tokenizer import load_tokenizer
from response_generator.runs.hub_sources import fetch_adapter


def find_adapter(key: str, name: str, arguments: LoadingArguments) -> AdapterFile:
    """Finds an adapter, downloads it if it is on the hub, and checks it against the base model, whose weights
    are not loaded.

    Raises:
        InputError: when the adapter is damaged, was made for another base model, or has no embeddings for some tokens
            of its tokenizer.
    """
    base_config = load_config(arguments)
    adapter = AdapterFile.read(fetch_adapter(name))
    adapter.check_fits(key, base_config)
    adapter.check_finite(key)
    check_vocabulary(load_tokenizer(arguments, adapter), adapter, base_config.vocab_size, key)
    return adapter


def resolve_initial_adapter(arguments: AdapterTrainingArguments) -> AdapterFile | None:
    """Finds and checks the adapter that training starts from.

    Returns:
        The adapter, or None when training starts from a new LoRA. The settings of a new LoRA are checked on a model
        without weights.

    Raises:
        InputError: when the base model cannot be built, the adapter does not fit it (see `find_adapter`) or cannot be
            trained, or `lora` does not fit it.
    """
    check_loading(arguments)
    if arguments.adapter is not None:
        start = find_adapter("adapter", arguments.adapter, arguments)
        if any(part in name for name in start.shapes for part in ("lora_embedding_", "lm_head.lora_")):
            raise InputError(
                f"adapter: {start.folder}: has LoRA weights on lm_head or embed_tokens; TRL does not train these; "
                f"name another adapter"
            )
        return start
    base_config = load_config(arguments)
    if not trains_embeddings(arguments):
        check_vocabulary(load_tokenizer(arguments, None), None, base_config.vocab_size, "adapter")
    base = build_meta_model(base_config)
    errors = find_pattern_errors(arguments.lora, [name for name, _ in base.named_modules()])
    if errors:
        raise InputError(*(f"lora.{message}" for message in errors))
    check_target_modules(base, arguments.lora.get("target_modules"))
    add_new_lora(base, arguments)
    return None


def trains_embeddings(arguments: AdapterTrainingArguments) -> bool:
    """Whether SFT trains the embeddings with a new LoRA, so that it may add tokens to the vocabulary.

    DPO may not: its reference would have random embeddings for them.
    """
    whole_modules = (arguments.lora or {}).get("modules_to_save") or ()
    return arguments.section == "sft" and set(EMBEDDING_MODULES) <= set(whole_modules)


def add_new_lora(base: PreTrainedModel, arguments: AdapterTrainingArguments) -> PeftModel:
    """Adds a new LoRA with the settings of the section `lora`. The same seed gives the same initial weights.

    Raises:
        InputError: with the error of PEFT, when the settings conflict or do not fit the base model.
    """
    set_seed(arguments.seed)
    try:
        return get_peft_model(base, LoraConfig(**arguments.lora, task_type="CAUSAL_LM"), adapter_name=POLICY_ADAPTER)
    except Exception as error:  # PEFT raises exceptions of many types
        raise InputError(f"lora: {error}") from error


def check_target_modules(base: PreTrainedModel, targets: list[str] | str | None) -> None:
    """PEFT ignores a name without a module as long as another one has some.

    Raises:
        InputError: when a name in the list is the end of no module's name, or a pattern matches none.
    """
    modules = dict(base.named_modules())

    def is_found(target: str) -> bool:
        if isinstance(targets, str):
            return target.lower() == ALL_LINEAR or any(re.fullmatch(target, name) for name in modules)
        return any(f".{name}".endswith(f".{target}") for name in modules)

    for target in [targets] if isinstance(targets, str) else targets or []:
        if not is_found(target):
            linear = {name.rpartition(".")[2] for name, module in modules.items() if isinstance(module, nn.Linear)}
            raise InputError(
                f"lora.target_modules: {target}: the base model has no such module; its linear layers are "
                f"{', '.join(sorted(linear))}"
            )


def resolve_reference_adapter(arguments: DPOArguments, start: AdapterFile | None) -> AdapterFile | None:
    """Finds and checks the adapter named in `reference_adapter`.

    Returns:
        The adapter, or None when the reference is a copy of the model that training starts from.

    Raises:
        InputError: when the adapter does not fit the base model (see `find_adapter`), or cannot be loaded beside the
            trained adapter.
    """
    if arguments.reference_adapter is None:
        return None
    reference = find_adapter("reference_adapter", arguments.reference_adapter, arguments)
    if reference.replaces_base_embeddings or (start and start.replaces_base_embeddings):
        raise InputError(
            "reference_adapter: this adapter or the trained one replaces the embeddings of the base model, which both "
            "adapters share; name another adapter"
        )
    check_vocabulary(
        load_tokenizer(arguments, start), reference, load_config(arguments).vocab_size, "reference_adapter"
    )
    return reference


def load_policy(
    arguments: AdapterTrainingArguments, adapter: AdapterFile | None, vocabulary_size: int = 0
) -> PeftModel:
    """Loads the base model with a trainable adapter: `adapter`, or a new LoRA when it is None.

    Args:
        vocabulary_size: tokens of the tokenizer. For a new LoRA that trains the embeddings, the base model is resized
            when it has fewer.
    """
    gradient_checkpointing = arguments.from_pretrained.get("use_gradient_checkpointing", "unsloth")
    if has_unsloth_gpu_code() and not has_gradient_checkpointing(arguments):
        # unsloth's trainer uses the setting that the model was loaded with and ignores the one in TRL's configuration.
        gradient_checkpointing = False
        keywords = {**arguments.from_pretrained, "use_gradient_checkpointing": gradient_checkpointing}
        arguments = arguments.model_copy(update={"from_pretrained": keywords})
    base = load_base(arguments)
    if vocabulary_size > base.get_input_embeddings().weight.shape[0] and trains_embeddings(arguments):
        base.resize_token_embeddings(vocabulary_size)
    policy = add_adapter(base, adapter, POLICY_ADAPTER, trainable=True) if adapter else add_new_lora(base, arguments)
    if has_unsloth_gpu_code():
        unsloth = import_unsloth()
        # This makes every LoRA weight trainable, so it has to come before the frozen reference adapter is added.
        # unsloth has fused LoRA kernels for Llama, Qwen and others. FastModel is its code for the rest: Gemma 3.
        is_fast = has_unsloth_forward(base)
        patch = unsloth.FastLanguageModel.patch_peft_model if is_fast else unsloth.FastModel.post_patch_model
        policy = patch(policy, gradient_checkpointing)
    name_base_model(policy, arguments)
    return policy


def name_base_model(policy: PeftModel, arguments: AdapterTrainingArguments) -> None:
    """Sets the name under which PEFT will look for the base model of the saved adapter: a hub id with its revision, or
    the absolute path of a local folder. If the adapter is uploaded, a local folder is named without its path, which
    means nothing elsewhere."""
    name, revision = find_hub_revision(arguments.base_model)
    config = policy.peft_config[POLICY_ADAPTER]
    config.base_model_name_or_path = strip_local_folders(name) if arguments.push_to_hub else name
    config.revision = revision


def has_gradient_checkpointing(arguments: AdapterTrainingArguments) -> bool:
    """Returns `gradient_checkpointing` of the section `dpo` or `sft`, or TRL's default when it is not set."""
    return arguments.trl_settings.get(
        "gradient_checkpointing", library_keywords.read_default(arguments.section, "gradient_checkpointing")
    )


def check_vocabulary(tokenizer: PreTrainedTokenizerBase, adapter: AdapterFile | None, base_rows: int, key: str) -> None:
    """Checks that every token of the tokenizer has a trained embedding, in the adapter or else in the base model.

    Raises:
        InputError: when the tokenizer has more tokens than there are embeddings.
    """
    adapter_rows = adapter.embedding_rows if adapter else None
    if len(tokenizer) > (adapter_rows or base_rows):
        source = adapter.folder if adapter else "the base model without an adapter"
        owner = f"the adapter has {adapter_rows}" if adapter_rows else f"the base model has {base_rows}"
        raise InputError(
            f"{key}: {source}: the tokenizer has {len(tokenizer)} tokens, but {owner} embeddings; the embeddings of "
            f"the other tokens would be random; use the tokenizer and special_tokens that the model was trained with, "
            f'or train the embeddings in SFT of a new LoRA: lora.modules_to_save: ["embed_tokens", "lm_head"]'
        )
