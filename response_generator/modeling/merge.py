"""Base and adapter merged into one 16-bit model that needs no PEFT, compared with what it is made of."""

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from safetensors import SafetensorError

from response_generator.config import strict_json
from response_generator.config.schema import DPOArguments
from response_generator.config.sources import from_pretrained_keywords, is_local
from response_generator.constants import POLICY_ADAPTER
from response_generator.errors import InputError, RunError
from response_generator.runs import distributed

if TYPE_CHECKING:  # `find_export_errors` is asked for before torch is imported
    from response_generator.modeling.adapters import AdapterFile

MAX_KL_RATIO = 0.05  # of what the adapter does to the base: rounding loses a thousandth, a base left unmerged all of it
SAMPLE_DIALOGUES = (  # the emotion of the replies; words of the user and of the bot in turn
    ("happiness", ("I got the job !", "Really ? Congratulations !", "I start on Monday .", "That is wonderful news !")),
    ("anger", ("I left the door open again .", "That is enough ! I told you twice !")),
    ("sadness", ("Our old dog died last night .", "I am so sorry . I will miss him .")),
)


def find_export_errors(arguments: DPOArguments) -> list[str]:
    """What would make an export fail, as far as files here tell; nothing is loaded. Empty when nothing is exported."""
    if arguments.export is None:
        return []
    return find_path_errors(arguments) + find_base_errors(arguments)


def find_path_errors(arguments: DPOArguments) -> list[str]:
    if not distributed.is_main_process():
        return []
    path, run = Path(arguments.export.path), Path(arguments.output_dir)
    key = f"export.path: {path}"
    if run.resolve().is_relative_to(path.resolve()) or path.resolve().is_relative_to((run / "adapter").resolve()):
        return [f"{key}: would mix with the files of the run; name a folder of its own, for example {run / 'merged'}"]
    try:
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            return [f"{key}: is there already; name a new folder, or an empty one"]
        with TemporaryDirectory(dir=next(place for place in path.absolute().parents if place.exists())):
            return []
    except OSError as error:
        return [f"{key}: cannot be written ({error.strerror}); name another folder"]


def find_base_errors(arguments: DPOArguments) -> list[str]:
    key, name = with_16bit_base(arguments)
    if not is_local(name):
        return []
    try:
        config = strict_json.read_object(Path(name, "config.json"))
    except InputError:
        return []  # preflight tells of damaged models
    return find_quantization_errors(key, name, config.get("quantization_config"))


def find_quantization_errors(key: str, name: str, quantization: object) -> list[str]:
    return [f"{key}: {name}: is pre-quantized; name its 16-bit original in export.base_model"] if quantization else []


def check_export_base(arguments: DPOArguments, start: "AdapterFile | None") -> None:
    """Before training: the base to merge into, from the hub if need be, must be a 16-bit one that the adapter fits.

    Raises:
        InputError: when it is not.
    """
    if arguments.export is None:
        return
    from response_generator.modeling.loading import load_config

    key, name = with_16bit_base(arguments)
    config = load_config(arguments.model_copy(update={"base_model": name}))
    errors = find_quantization_errors(key, name, getattr(config, "quantization_config", None))
    if errors:
        raise InputError(*errors)
    if start:
        start.check_fits(key, config)


def with_16bit_base(arguments: DPOArguments) -> tuple[str, str]:
    """The key that names the base to merge into, and its value."""
    if arguments.export.base_model is not None:
        return "export.base_model", arguments.export.base_model
    return "base_model", arguments.base_model


def merge_in_subprocess(arguments: DPOArguments, adapter: Path) -> Path:
    """Writes base and `adapter`, a run's folder, as one model to `export.path`: whole and compared, or not at all.

    Raises:
        InputError: when base and adapter do not fit.
        RunError: when the merged model is not base + adapter, or could not be computed or written.
    """
    again = f"the adapter is safe in {adapter}; to export again: python -m response_generator.export {adapter.parent}"
    print(f"export: merging into {with_16bit_base(arguments)[1]} …")
    try:
        # A process of its own: for a card unsloth puts model code into transformers that runs there only, and where
        # memory does not suffice, the system ends that process and not this one.
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
            print(process.submit(merge_adapter, arguments, adapter).result())
    except BrokenProcessPool as error:
        raise RunError(f"export: its process was ended from outside; is there memory for it? {again}") from error
    except (RunError, OSError, SafetensorError, ValueError, RuntimeError) as error:
        raise RunError(f"export: {error}; {again}") from error
    except KeyboardInterrupt:
        raise KeyboardInterrupt(again) from None
    return Path(arguments.export.path)


def merge_adapter(arguments: DPOArguments, adapter: Path) -> str:
    """`merge_in_subprocess` in this process, on the CPU: it is one product a layer, and the GPU may be full.

    Returns:
        A line about the merged model.
    """
    from response_generator.modeling.backend import import_backend

    import_backend("transformers")
    from response_generator.data.chat_template import ChatFormatter
    from response_generator.modeling.adapters import AdapterFile
    from response_generator.modeling.tokenizer import load_tokenizer

    source = AdapterFile.read(adapter)
    check_export_base(arguments, source)
    arguments = arguments.model_copy(update={"base_model": with_16bit_base(arguments)[1]})
    formatter = ChatFormatter.of(load_tokenizer(arguments, source), arguments.chat_template)
    target = Path(arguments.export.path)
    target.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as room:
        folder = Path(room, "model")
        lost, effect, largest = write_and_compare(arguments, source, formatter, folder)
        if not lost <= MAX_KL_RATIO * effect:
            raise RunError(
                f"the merged model is not base + adapter: their mean KL divergence is {lost:.1e} nats a token, the "
                f"adapter's own effect {effect:.1e}; {target} was not written. If the adapter does little, its updates "
                f"are lost in {arguments.export.dtype}"
            )
        os.replace(folder, target)
    size = sum(file.stat().st_size for file in target.iterdir()) / 1e9
    return (
        f"export: {target}: {size:.2f} GB in {arguments.export.dtype}; KL divergence from base + adapter {lost:.1e} "
        f"nats a token (the adapter's own effect: {effect:.1e}), log-probabilities differ by {largest:.2f} at most"
    )


def write_and_compare(arguments: DPOArguments, source, formatter, folder: Path) -> tuple[float, float, float]:
    """Writes the merged model and its tokenizer into `folder`, and compares what is read back from there.

    Returns:
        Mean KL divergence from base + adapter to the merged model, and to the bare base, in nats a token; and the
        largest difference of a token's log-probability to the merged model.
    """
    import gc

    import torch
    from transformers import AutoModelForCausalLM

    from response_generator.modeling.adapters import add_adapter
    from response_generator.modeling.loading import get_changed_config_fields

    dtype = getattr(torch, arguments.export.dtype)
    trust = arguments.from_pretrained.get("trust_remote_code", False)
    fields = get_changed_config_fields(arguments)  # the adapter was trained on a base with these
    base = AutoModelForCausalLM.from_pretrained(
        **from_pretrained_keywords(arguments.base_model), dtype=dtype, trust_remote_code=trust, **fields
    )
    adapted = add_adapter(base, source, POLICY_ADAPTER).eval()
    expected = sample_logprobs(adapted, formatter)
    with adapted.disable_adapter():
        effect = mean_kl(expected, sample_logprobs(adapted, formatter))
    merged = adapted.merge_and_unload(safe_merge=True).to(dtype)  # whole modules that the adapter brings are fp32
    merged.generation_config.pad_token_id = formatter.tokenizer.pad_token_id
    merged.generation_config.eos_token_id = formatter.tokenizer.eos_token_id
    merged.save_pretrained(folder)
    formatter.tokenizer.save_pretrained(folder)
    del base, adapted, merged
    gc.collect()  # a model with adapters is full of cycles, and memory may not suffice for two
    written = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=trust).eval()
    found = sample_logprobs(written, formatter)
    return mean_kl(expected, found), effect, (expected - found).abs().max().item()


def sample_logprobs(model, formatter):
    """Of every token of the vocabulary after every token of the fixed dialogues: `(tokens, vocabulary)`."""
    import torch

    tables = []
    for emotion, words in SAMPLE_DIALOGUES:
        *history, reply = [
            {"role": ("user", "assistant")[at % 2], "content": {"emotion": emotion, "dialog": said}}
            for at, said in enumerate(words)
        ]
        text = formatter.prompt(history, emotion) + formatter.completion(history, emotion, reply["content"])
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([formatter.encode(text)]), use_cache=False).logits[0]
        tables.append(logits.float().log_softmax(-1))
    return torch.cat(tables)


def mean_kl(expected, found) -> float:
    """Mean KL divergence of two tables of log-probabilities `(tokens, vocabulary)`, in nats a token."""
    return (expected.exp() * (expected - found)).sum(-1).mean().item()
