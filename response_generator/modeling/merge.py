"""Export: merges base model and adapter into one 16-bit model that needs no PEFT, and checks the result."""

import os
import shlex
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from safetensors import SafetensorError

from response_generator.config import strict_json
from response_generator.config.sources import from_pretrained_keywords, is_local
from response_generator.config.training_schema import DPOArguments
from response_generator.constants import POLICY_ADAPTER
from response_generator.errors import InputError, RunError
from response_generator.runs import distributed
from response_generator.runs.atomic_folder import atomic_folder
from response_generator.runs.worker import call_in_new_process

if TYPE_CHECKING:  # `find_export_errors` runs before torch is imported
    from response_generator.modeling.adapter_file import AdapterFile

# The largest allowed KL divergence between merged model and base + adapter, divided by that between base and
# base + adapter. Rounding to 16 bits gives about 0.001; without the adapter the ratio is 1.
MAX_KL_RATIO = 0.05
# The emotion of the replies, and the messages of user and bot in turn. The last message is a reply of the bot.
SAMPLE_DIALOGUES = (
    ("happiness", ("I got the job !", "Really ? Congratulations !", "I start on Monday .", "That is wonderful news !")),
    ("anger", ("I left the door open again .", "That is enough ! I told you twice !")),
    ("sadness", ("Our old dog died last night .", "I am so sorry . I will miss him .")),
)


def find_export_errors(arguments: DPOArguments) -> list[str]:
    """Checks the section `export` with local files only, before anything is loaded."""
    if arguments.export is None:
        return []
    return find_path_errors(arguments) + find_base_errors(arguments)


def find_path_errors(arguments: DPOArguments) -> list[str]:
    """Checks that `export.path` is a new or empty folder, can be written, and is not the run's folder or adapter."""
    if not distributed.is_main_process():
        return []
    path, run = Path(arguments.export.path), Path(arguments.output_dir)
    key = f"export.path: {path}"
    # Not Path.resolve, which raises RuntimeError for links that lead to themselves.
    real_path, real_run, real_adapter = (Path(os.path.realpath(folder)) for folder in (path, run, run / "adapter"))
    if real_run.is_relative_to(real_path) or real_path.is_relative_to(real_adapter):
        return [f"{key}: would mix with the files of the run; name another folder, for example {run / 'merged'}"]
    try:
        if os.path.lexists(path) and (not path.is_dir() or any(path.iterdir())):
            return [f"{key}: already exists; name a new or an empty folder"]
        with TemporaryDirectory(dir=next(parent for parent in path.absolute().parents if os.path.lexists(parent))):
            return []
    except OSError as error:
        return [f"{key}: cannot be written ({error.strerror}); name another folder"]


def find_base_errors(arguments: DPOArguments) -> list[str]:
    """Checks that a local base model to merge into is not quantized."""
    key, name = get_16bit_base(arguments)
    if not is_local(name):
        return []
    try:
        config = strict_json.read_object(Path(name, "config.json"))
    except InputError:
        return []  # preflight reports damaged models
    return find_quantization_errors(key, name, config.get("quantization_config"))


def find_quantization_errors(key: str, name: str, quantization: object) -> list[str]:
    if not quantization:
        return []
    return [f"{key}: {name}: is pre-quantized; name its 16-bit original in export.base_model"]


def check_export_base(arguments: DPOArguments, start: "AdapterFile | None") -> None:
    """Checks before training that the base model to merge into, local or on the hub, is not quantized and fits the
    adapter.

    Args:
        start: the adapter that training starts from; None for a new LoRA.

    Raises:
        InputError: when the base model is quantized or does not fit the adapter.
    """
    if arguments.export is None:
        return
    from response_generator.modeling.base_config import load_config

    key, name = get_16bit_base(arguments)
    config = load_config(arguments.model_copy(update={"base_model": name}))
    errors = find_quantization_errors(key, name, getattr(config, "quantization_config", None))
    if errors:
        raise InputError(*errors)
    if start:
        start.check_fits(key, config)


def get_16bit_base(arguments: DPOArguments) -> tuple[str, str]:
    """Returns the key that names the base model to merge into, and its value."""
    if arguments.export.base_model is not None:
        return "export.base_model", arguments.export.base_model
    return "base_model", arguments.base_model


def is_exported(arguments: DPOArguments) -> bool:
    return Path(arguments.export.path, "config.json").is_file()


def describe_export_command(run: Path, assignments: Sequence[str] = ()) -> str:
    """Returns the command that exports a finished run.

    Args:
        assignments: values of `--set`.
    """
    options = [part for assignment in assignments for part in ("--set", assignment)]
    return shlex.join(["python", "-m", "response_generator.export", str(run), *options])


def merge_in_subprocess(arguments: DPOArguments, adapter: Path, assignments: Sequence[str] = ()) -> Path:
    """Merges the base model and a trained adapter, and writes the result to `export.path` once it has been checked.

    Args:
        adapter: the folder `adapter` of a run.
        assignments: values of `--set` with which the section `export` differs from that in the run's args.json.

    Raises:
        InputError: when base model and adapter do not fit.
        RunError: when the merged model differs from base + adapter, or cannot be computed or written.
        KeyboardInterrupt: when it is stopped; says what is finished and what is not.
    """
    command = describe_export_command(adapter.parent, assignments)
    advice = f"the adapter is saved in {adapter}; to export again: {command}"
    target = Path(arguments.export.path)
    print(f"export: merging into {get_16bit_base(arguments)[1]} …")
    try:
        # In a new process, because unsloth has patched transformers in this one with code that runs on the GPU only,
        # and because the system ends only the new process when memory runs out.
        with atomic_folder(target) as folder:
            message = call_in_new_process(merge_adapter, arguments, adapter, folder)
    except BrokenProcessPool as error:
        raise RunError(f"export: the system ended its process, probably for lack of memory; {advice}") from error
    except (RunError, OSError, SafetensorError, ValueError, RuntimeError) as error:
        raise RunError(f"export: {error}; {advice}") from error
    except KeyboardInterrupt:
        export = "the export too" if is_exported(arguments) else f"the export is not; to export: {command}"
        raise KeyboardInterrupt(f"the adapter is finished, in {adapter}; {export}") from None
    print(message)
    return target


def merge_adapter(arguments: DPOArguments, adapter: Path, folder: Path) -> str:
    """Does the work of `merge_in_subprocess` in the current process, on the CPU, because the GPU may be full.

    Args:
        folder: where the model is written; it is moved to `export.path` afterwards.

    Returns:
        A message about the merged model, for the user.
    """
    from response_generator.modeling.backend import import_backend

    import_backend("transformers")
    from response_generator.data.chat_template import ChatFormatter
    from response_generator.modeling.adapter_file import AdapterFile
    from response_generator.modeling.tokenizer import load_tokenizer

    source = AdapterFile.read(adapter)
    check_export_base(arguments, source)
    arguments = arguments.model_copy(update={"base_model": get_16bit_base(arguments)[1]})
    formatter = ChatFormatter.of(load_tokenizer(arguments, source), arguments.chat_template)
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


def write_and_compare(arguments: DPOArguments, source, formatter, folder: Path) -> tuple[float, float, float]:
    """Writes the merged model and its tokenizer into `folder`, loads the model from there and compares it with base +
    adapter.

    Returns:
        The mean KL divergence between base + adapter and the merged model, the same between base + adapter and the base
        alone, both in nats per token, and the largest difference of a log-probability between base + adapter and the
        merged model.
    """
    import gc

    import torch
    from transformers import AutoModelForCausalLM

    from response_generator.modeling.adapters import add_adapter
    from response_generator.modeling.base_config import get_changed_config_fields

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


def compute_sample_logprobs(model, formatter):
    """Returns the log-probabilities of the next token at every position of SAMPLE_DIALOGUES, `(tokens, vocabulary)`."""
    import torch

    logprobs = []
    for emotion, messages in SAMPLE_DIALOGUES:
        *history, reply = [
            {"role": ("user", "assistant")[number % 2], "content": {"emotion": emotion, "dialog": message}}
            for number, message in enumerate(messages)
        ]
        text = formatter.prompt(history, emotion) + formatter.completion(history, emotion, reply["content"])
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([formatter.encode(text)]), use_cache=False).logits[0]
        logprobs.append(logits.float().log_softmax(-1))
    return torch.cat(logprobs)


def compute_mean_kl(expected, logprobs) -> float:
    """Returns the mean KL divergence KL(expected || logprobs) of log-probabilities `(tokens, vocabulary)`, in nats per
    token."""
    return (expected.exp() * (expected - logprobs)).sum(-1).mean().item()
