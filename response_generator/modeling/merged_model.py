"""Merges base model and adapter into one 16-bit model that needs no PEFT, and checks what was written."""

import gc
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, PreTrainedModel

from response_generator.config.sources import from_pretrained_keywords
from response_generator.config.training_schema import DPOArguments
from response_generator.constants import POLICY_ADAPTER
from response_generator.data.chat_template import ChatFormatter
from response_generator.data.datasets import make_content
from response_generator.errors import InputError, RunError
from response_generator.modeling.adapter_file import AdapterFile
from response_generator.modeling.adapters import add_adapter
from response_generator.modeling.base_config import get_changed_config_fields, load_config
from response_generator.modeling.merge import find_quantization_errors, get_16bit_base
from response_generator.modeling.tokenizer import load_tokenizer

# The largest allowed KL divergence between merged model and base + adapter, divided by that between base and
# base + adapter. Rounding to 16 bits gives about 0.001; without the adapter the ratio is 1.
MAX_KL_RATIO = 0.05
# The place of a label among the run's labels (modulo their number), and the messages of user and bot in turn, the last
# of which is a reply of the bot. The messages suit the labels happiness, anger and sadness of the default labels.
SAMPLE_DIALOGUES = (
    (4, ("I got the job !", "Really ? Congratulations !", "I start on Monday .", "That is wonderful news !")),
    (1, ("I left the door open again .", "That is enough ! I told you twice !")),
    (5, ("Our old dog died last night .", "I am so sorry . I will miss him .")),
)


def check_export_base(arguments: DPOArguments, start: AdapterFile | None) -> None:
    """Checks before training that the base model to merge into, local or on the hub, is not quantized and fits the
    adapter.

    Args:
        start: the adapter that training starts from; None for a new LoRA.

    Raises:
        InputError: when the base model is quantized or does not fit the adapter.
    """
    if arguments.export is None:
        return
    key, name = get_16bit_base(arguments)
    config = load_config(arguments.model_copy(update={"base_model": name}))
    errors = find_quantization_errors(key, name, getattr(config, "quantization_config", None))
    if errors:
        raise InputError(*errors)
    if start:
        start.check_fits(key, config)


def merge_adapter(arguments: DPOArguments, adapter: Path, folder: Path) -> str:
    """Merges base model and adapter, writes the result and compares it with base + adapter; on the CPU, because the GPU
    may be full.

    Args:
        folder: where the model is written; it is moved to `export.path` afterwards.

    Returns:
        A message about the merged model, for the user.

    Raises:
        InputError: when base model and adapter do not fit.
        RunError: when the merged model differs from base + adapter.
    """
    source = AdapterFile.read(adapter)
    check_export_base(arguments, source)
    arguments = arguments.model_copy(update={"base_model": get_16bit_base(arguments)[1]})
    formatter = ChatFormatter.of(load_tokenizer(arguments, source), arguments.chat_template, arguments.label_set)
    target = Path(arguments.export.path)
    merge_kl, adapter_kl, max_difference = write_and_compare(arguments, source, formatter, folder)
    if not merge_kl <= MAX_KL_RATIO * adapter_kl:
        raise RunError(
            f"the merged model differs from base + adapter: KL divergence {merge_kl:.1e} nats per token; allowed: "
            f"{MAX_KL_RATIO * adapter_kl:.1e}, which is {MAX_KL_RATIO:.0%} of that between base and base + "
            f"adapter; {target} was not written. An adapter with very small updates, such as one of a few steps, "
            f"loses them in {arguments.export.dtype}: train longer"
        )
    size = sum(file.stat().st_size for file in folder.iterdir()) / 1e9
    return (
        f"export: {target}: {size:.2f} GB in {arguments.export.dtype}; KL divergence from base + adapter "
        f"{merge_kl:.1e} nats per token (of the base alone: {adapter_kl:.1e}), log-probabilities differ by at most "
        f"{max_difference:.2f}"
    )


def write_and_compare(
    arguments: DPOArguments, source: AdapterFile, formatter: ChatFormatter, folder: Path
) -> tuple[float, float, float]:
    """Writes the merged model and its tokenizer into `folder`, loads the model from there and compares it with base +
    adapter.

    Returns:
        The mean KL divergence between base + adapter and the merged model, the same between base + adapter and the base
        alone, both in nats per token, and the largest difference of a log-probability between base + adapter and the
        merged model.
    """
    dtype = getattr(torch, arguments.export.dtype)
    trust_remote_code = arguments.from_pretrained.get("trust_remote_code", False)
    fields = get_changed_config_fields(arguments)  # the adapter was trained on a base model with these fields
    base = AutoModelForCausalLM.from_pretrained(
        **from_pretrained_keywords(arguments.base_model, trust_remote_code), dtype=dtype, **fields
    )
    adapted = add_adapter(base, source, POLICY_ADAPTER).eval()
    expected = compute_sample_logprobs(adapted, formatter)
    with adapted.disable_adapter():
        adapter_kl = compute_mean_kl(expected, compute_sample_logprobs(adapted, formatter))
    merged = adapted.merge_and_unload(safe_merge=True).to(dtype)  # `modules_to_save` are fp32
    merged.generation_config.pad_token_id = formatter.tokenizer.pad_token_id
    merged.generation_config.eos_token_id = formatter.tokenizer.eos_token_id
    merged.save_pretrained(folder)
    formatter.tokenizer.save_pretrained(folder)
    del base, adapted, merged
    gc.collect()  # frees the models now: reference cycles would keep them in memory while the next one is loaded
    written = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=trust_remote_code).eval()
    logprobs = compute_sample_logprobs(written, formatter)
    return compute_mean_kl(expected, logprobs), adapter_kl, (expected - logprobs).abs().max().item()


def compute_sample_logprobs(model: PreTrainedModel | PeftModel, formatter: ChatFormatter) -> torch.Tensor:
    """Returns the log-probabilities of the next token at every position of SAMPLE_DIALOGUES, `(tokens, vocabulary)`."""
    logprobs = []
    names = formatter.labels.names
    for place, messages in SAMPLE_DIALOGUES:
        emotion = names[place % len(names)] if names else None
        *history, reply = [
            {"role": ("user", "assistant")[number % 2], "content": make_content(emotion, message)}
            for number, message in enumerate(messages)
        ]
        text = formatter.prompt(history, emotion) + formatter.completion(history, emotion, reply["content"])
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([formatter.encode(text)]), use_cache=False).logits[0]
        logprobs.append(logits.float().log_softmax(-1))
    return torch.cat(logprobs)


def compute_mean_kl(expected: torch.Tensor, logprobs: torch.Tensor) -> float:
    """Returns the mean KL divergence KL(expected || logprobs) of log-probabilities `(tokens, vocabulary)`, in nats per
    token."""
    return (expected.exp() * (expected - logprobs)).sum(-1).mean().item()
