"""Loads the base model in 4 bits, and adapters on it."""

from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    BitsAndBytesConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    set_seed,
)

from response_generator.config import library_keywords
from response_generator.config.conflicts import LIBRARY_DEFAULTS
from response_generator.config.hub import fetch_adapter
from response_generator.config.schema import DPOArguments, ModelArguments
from response_generator.config.sources import from_pretrained_keywords
from response_generator.constants import POLICY_ADAPTER
from response_generator.errors import InputError
from response_generator.modeling import attention
from response_generator.modeling.adapters import AdapterFile, add_adapter
from response_generator.modeling.backend import has_unsloth_gpu_code
from response_generator.modeling.meta_model import build_meta_model
from response_generator.modeling.precision import get_compute_dtype
from response_generator.modeling.tokenizer import load_tokenizer
from response_generator.runs import distributed, library_output

LOADER_KEYWORDS = {"dtype", "use_cache", "quantization_config"}  # how the base is loaded, not what it is
LLAMA_ONLY = {"pretraining_tp", "mlp_bias"}
SHAPE_FIELDS = set(
    "hidden_size intermediate_size head_dim num_attention_heads num_hidden_layers num_key_value_heads vocab_size "
    "hidden_act mlp_bias attention_bias tie_word_embeddings".split()
)


def load_config(arguments: ModelArguments) -> PretrainedConfig:
    """The base's configuration, without its weights.

    Raises:
        InputError: when it cannot be read, or when a keyword of `from_pretrained` is a field that this kind of model
            does not have, or gives its weights another shape.
    """
    trust = arguments.from_pretrained.get("trust_remote_code", False)
    try:
        config = AutoConfig.from_pretrained(**from_pretrained_keywords(arguments.base_model), trust_remote_code=trust)
    except Exception as error:  # each kind of model checks its fields with exceptions of its own
        raise InputError(f"base_model: {arguments.base_model}: its config.json cannot be used ({error})") from error
    errors = []
    for key, value in arguments.from_pretrained.items():
        if key in LLAMA_ONLY and not hasattr(config, key):
            errors.append(
                f"from_pretrained.{key}: {config.model_type} models have no such field; remove it, or pass "
                f"--set from_pretrained.{key}=null"
            )
        elif key in SHAPE_FIELDS and getattr(config, key, value) != value:
            errors.append(f"from_pretrained.{key}: got {value}; the weights are of {getattr(config, key)}; remove it")
    if errors:
        raise InputError(*errors)
    return config


def get_changed_config_fields(arguments: ModelArguments) -> dict[str, Any]:
    """What `from_pretrained` says of the base itself, such as rope_parameters, and not of how it is loaded."""
    own = load_config(arguments).to_dict().keys() | {"rope_scaling"}
    return {key: value for key, value in arguments.from_pretrained.items() if key in own - LOADER_KEYWORDS}


def check_loading(arguments: ModelArguments) -> None:
    """Builds the base without its weights, with the fields of its configuration that `from_pretrained` changes.

    Raises:
        InputError: in transformers' words, when it cannot be built.
    """
    fields = get_changed_config_fields(arguments)
    trust = arguments.from_pretrained.get("trust_remote_code", False)
    try:
        config = AutoConfig.from_pretrained(
            **from_pretrained_keywords(arguments.base_model), trust_remote_code=trust, **fields
        )
        build_meta_model(config, trust)
    except Exception as error:  # each kind of model checks its fields with exceptions of its own
        named = ", ".join(f"from_pretrained.{key}" for key in fields) or "base_model"
        raise InputError(f"{named}: the base cannot be built ({type(error).__name__}: {error})") from error


def find_adapter(key: str, name: str, arguments: ModelArguments) -> AdapterFile:
    """Fetches an adapter if need be and checks it against the base, before either is loaded.

    Raises:
        InputError: when the adapter is damaged, made for another base, or has other tokens than its tokenizer.
    """
    base = load_config(arguments)
    adapter = AdapterFile.read(fetch_adapter(name))
    adapter.check_fits(key, base)
    adapter.check_finite(key)
    check_vocabulary(load_tokenizer(arguments, adapter), adapter, base.vocab_size, key)
    return adapter


def resolve_initial_adapter(arguments: DPOArguments) -> AdapterFile | None:
    """The adapter that training starts from; None for a new LoRA, whose settings are then tried on an empty model.

    Raises:
        InputError: see `find_adapter`; or when `lora` does not fit the base.
    """
    check_loading(arguments)
    if arguments.adapter is not None:
        start = find_adapter("adapter", arguments.adapter, arguments)
        if any(part in name for name in start.shapes for part in ("lora_embedding_", "lm_head.lora_")):
            raise InputError(f"adapter: {start.folder}: is also on lm_head or embed_tokens; TRL does not train that")
        return start
    base = load_config(arguments)
    check_vocabulary(load_tokenizer(arguments, None), None, base.vocab_size, "adapter")
    add_new_lora(build_meta_model(base), arguments)
    return None


def add_new_lora(base: PreTrainedModel, arguments: DPOArguments) -> PeftModel:
    """A LoRA from the section `lora`, the same for the same seed; it adds nothing to the base until it is trained.

    Raises:
        InputError: in PEFT's words, when the settings do not go together or do not fit the base.
    """
    set_seed(arguments.seed)
    try:
        return get_peft_model(base, LoraConfig(**arguments.lora, task_type="CAUSAL_LM"), adapter_name=POLICY_ADAPTER)
    except Exception as error:  # PEFT looks at each setting in another place
        raise InputError(f"lora: {error}") from error


def resolve_reference_adapter(arguments: DPOArguments, start: AdapterFile | None) -> AdapterFile | None:
    """The adapter of `reference_adapter`; None where the reference is a copy of what training starts from.

    Raises:
        InputError: see `find_adapter`; or when it cannot share the base with the trained adapter.
    """
    if arguments.reference_adapter is None:
        return None
    reference = find_adapter("reference_adapter", arguments.reference_adapter, arguments)
    if reference.replaces_base_embeddings or (start and start.replaces_base_embeddings):
        raise InputError("reference_adapter: one of the two adapters replaces the base's embeddings; both need them")
    check_vocabulary(
        load_tokenizer(arguments, start), reference, load_config(arguments).vocab_size, "reference_adapter"
    )
    return reference


def load_policy(arguments: DPOArguments, adapter: AdapterFile | None) -> PeftModel:
    """The base with `adapter`, or a new one, on it, trainable."""
    checkpointing = arguments.from_pretrained.get("use_gradient_checkpointing", "unsloth")
    if has_unsloth_gpu_code() and not has_gradient_checkpointing(arguments):
        # unsloth's trainer follows the mode that the model was given, whatever TRL's configuration says.
        checkpointing = False
        keywords = {**arguments.from_pretrained, "use_gradient_checkpointing": checkpointing}
        arguments = arguments.model_copy(update={"from_pretrained": keywords})
    base = load_base(arguments)
    policy = add_adapter(base, adapter, POLICY_ADAPTER, trainable=True) if adapter else add_new_lora(base, arguments)
    if has_unsloth_gpu_code():
        from unsloth import FastLanguageModel

        # Fused LoRA kernels. This marks every LoRA weight trainable, so it must come before the reference exists.
        policy = FastLanguageModel.patch_peft_model(policy, checkpointing)
    return policy


def has_gradient_checkpointing(arguments: DPOArguments) -> bool:
    """Whether layers are computed again for backward: `dpo.gradient_checkpointing`, which TRL has on by default."""
    return arguments.dpo.get("gradient_checkpointing", LIBRARY_DEFAULTS["gradient_checkpointing"])


def check_vocabulary(tokenizer: PreTrainedTokenizerBase, adapter: AdapterFile | None, base_rows: int, key: str) -> None:
    """Refuses tokens whose embeddings nobody trained.

    Raises:
        InputError: when the tokenizer knows more tokens than the adapter, or else the base, has embeddings for.
    """
    brought = adapter.embedding_rows if adapter else None
    if len(tokenizer) > (brought or base_rows):
        owner = f"the adapter brings {brought}" if brought else f"the base has {base_rows} (and no adapter brings any)"
        whose = adapter.folder if adapter else "the bare base model"
        raise InputError(
            f"{key}: {whose}: the tokenizer knows {len(tokenizer)} tokens, {owner} "
            f"embeddings; the new ones would be random. Use the tokenizer and special_tokens of its training"
        )


def load_base(arguments: ModelArguments) -> PreTrainedModel:
    """Loads the base model through the chosen backend, frozen."""
    keywords = arguments.from_pretrained | from_pretrained_keywords(arguments.base_model)
    wanted = keywords.get("attn_implementation")
    if wanted is not None:
        keywords["attn_implementation"] = attention.resolve_attn_implementation(wanted)
    if keywords.get("dtype") is not None:
        keywords["dtype"] = getattr(torch, keywords["dtype"])  # unsloth's GPU code takes no name
    loader = load_with_unsloth if arguments.backend == "unsloth" else load_with_transformers
    model = loader(keywords)
    if wanted is not None:
        attention.print_attn_change(wanted, attention.get_attn_implementation(model))
    print_loaded(model)
    return model.requires_grad_(False)


def print_loaded(model: PreTrainedModel) -> None:
    bits = "4-bit" if getattr(model, "is_loaded_in_4bit", False) else "16-bit or more"
    dtype = str(model.dtype).removeprefix("torch.")
    attn = attention.get_attn_implementation(model)
    print(f"loaded {type(model).__name__}: {bits} weights, computing in {dtype}, {attn} attention, on {model.device}")


def load_with_unsloth(keywords: dict[str, Any]) -> PreTrainedModel:
    from unsloth import FastLanguageModel

    if "revision" in keywords:
        # Otherwise unsloth may load a copy that it has quantized before, from a repository without this revision.
        keywords["use_exact_model_name"] = True
    # Its tokenizer is not used: one tokenizer, loaded above, serves data, training and generation.
    with library_output.hide_prints():
        model, _ = FastLanguageModel.from_pretrained(keywords.pop("pretrained_model_name_or_path"), **keywords)
    return model


def load_with_transformers(keywords: dict[str, Any]) -> PreTrainedModel:
    four_bit = keywords.pop("load_in_4bit", False)
    unused = sorted(set(keywords) & library_keywords.unsloth_only_keywords())
    if unused:
        print(f"backend transformers: {', '.join(unused)}: unsloth's own keywords, not used")
        keywords = {key: value for key, value in keywords.items() if key not in unused}
    if keywords.get("dtype") is None:
        keywords["dtype"] = get_compute_dtype()
        if keywords["dtype"] == torch.float32:
            print("dtype: this processor has no instructions for bfloat16; computing in float32")
    if four_bit:
        # The same quantization that unsloth's loaders use.
        keywords["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=get_compute_dtype(),
        )
    if not torch.cuda.is_available():
        keywords["device_map"] = "cpu"
    elif distributed.world_size() > 1:
        keywords["device_map"] = {"": torch.cuda.current_device()}  # "auto" would spread every copy over all cards
    model = AutoModelForCausalLM.from_pretrained(**keywords)
    for layer in model.modules():
        # bitsandbytes repacks 4-bit CPU weights at the first forward without gradients, and backward is wrong after.
        if hasattr(layer, "support_avx512bf16_for_cpu"):
            layer.support_avx512bf16_for_cpu = False
    return model


def describe_model(adapted: PeftModel) -> dict[str, Any]:
    """What was really loaded, for environment.json."""
    model = adapted.get_base_model()
    return {
        "model": {
            "class": type(model).__name__,
            "loaded_from": model.config._name_or_path,
            "commit": model.config._commit_hash,
            "attention": attention.get_attn_implementation(model),
            "four_bit": bool(getattr(model, "is_loaded_in_4bit", False)),
            "dtype": str(model.dtype).removeprefix("torch."),
            "device": str(model.device),
        }
    }
