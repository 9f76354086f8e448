"""The finished adapter merged into its 16-bit base: one model that needs no PEFT, checked against what it is made of.

    python -m response_generator.export RUN_FOLDER [--set export.KEY=VALUE]

exports a finished run, from its args.json, when it was not exported yet or the export failed.
"""

import json
import multiprocessing
import os
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

from response_generator import command_line
from response_generator.arguments import DPOArguments
from response_generator.errors import InputError, TrainingError
from response_generator.sources import adapter_faults, is_local, model_faults
from response_generator.validation import validated

if TYPE_CHECKING:  # preflight asks for `faults` before torch may be imported
    import torch
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from response_generator.adapters import AdapterFile

SHAPE = "model_type hidden_size intermediate_size num_hidden_layers num_attention_heads num_key_value_heads".split()
NOT_OF_THE_MODEL = {"dtype", "use_cache"}  # how training loads and runs the base, not what the base is
DIALOGUES = (
    ("happiness", ("I got the job !", "Really ? Congratulations !", "Thank you . I start on Monday .")),
    ("anger", ("You forgot to lock the door again .", "That is enough ! I locked it twice !")),
    ("sadness", ("Our old dog died last night .", "I am so sorry . I will miss him .")),
)
ROUNDINGS = 4  # times the divergence that one random rounding of every merged weight makes
SHARE = 0.01  # of the divergence between base and adapter and the bare base
ARITHMETIC = 1e-8  # nats; fp32 sums in another order


class Differences(NamedTuple):
    """Between base + adapter and other models, on the dialogues above: mean KL divergences in nats a token."""

    lost: float
    """To the merged model, as read from its files."""
    rounding: float
    """To base + adapter with every weight that is merged moved by at most half a step of the export's dtype."""
    effect: float
    """To the bare base: what the adapter does."""
    largest: float
    """The largest difference of a token's log-probability to the merged model, in nats."""

    @property
    def allowed(self) -> float:
        """What rounding explains, and never so much that the bare base would pass.

        Rounding does two things. It moves every weight at random, which `rounding` measures. And where the base comes
        in the same dtype, updates smaller than half a step vanish; of an adapter's effect that may cost SHARE.
        """
        return max(min(ROUNDINGS * self.rounding, self.effect / 2), SHARE * self.effect, ARITHMETIC)

    @property
    def agree(self) -> bool:
        return self.lost <= self.allowed  # nan does not


def faults(arguments: DPOArguments) -> list[str]:
    """What would make an export fail, as far as files here tell; empty when nothing is exported."""
    if arguments.export is None:
        return []
    return path_faults(arguments) + base_faults(arguments)


def path_faults(arguments: DPOArguments) -> list[str]:
    path, run = Path(arguments.export.path), Path(arguments.output_dir)
    key = f"export.path: {path}"
    here, there = path.resolve(), run.resolve()
    if there.is_relative_to(here) or here.is_relative_to(there / "adapter"):
        return [f"{key}: would mix with the files of the run; name a folder of its own, for example {run / 'merged'}"]
    try:
        if path.is_dir():
            taken = any(path.iterdir())
        else:
            taken = path.exists()
        if taken:
            return [f"{key}: {'is not empty' if path.is_dir() else 'is a file'}; name a new folder, or an empty one"]
        nearest = next(place for place in path.absolute().parents if place.exists())
        with TemporaryDirectory(dir=nearest):
            return []
    except OSError as error:
        return [f"{key}: cannot be written ({error.strerror}); name another folder"]


def base_faults(arguments: DPOArguments) -> list[str]:
    key, name = sixteen_bit_base(arguments)
    if not is_local(name):
        return []  # `check_base` reads its configuration
    if model_faults(key, name):
        return model_faults(key, name) if key != "base_model" else []  # a missing base_model is told of already
    try:
        config = json.loads(Path(name, "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        return [f"{key}: {name}: its config.json cannot be read ({error}); fetch the model again"]
    return quantisation_faults(key, name, config.get("quantization_config"))


def quantisation_faults(key: str, name: str, quantisation: dict[str, Any] | None) -> list[str]:
    if not quantisation:
        return []
    method = quantisation.get("quant_method", "method unknown")
    return [f"{key}: {name}: is pre-quantised ({method}); name its 16-bit original in export.base_model"]


def sixteen_bit_base(arguments: DPOArguments) -> tuple[str, str]:
    """The key that names the base to merge into, and its value."""
    if arguments.export.base_model is not None:
        return "export.base_model", arguments.export.base_model
    return "base_model", arguments.base_model


def check_base(arguments: DPOArguments) -> None:
    """Compares the configuration of the base to merge into, from the hub if need be, with the one trained on.

    Raises:
        InputError: when it is quantised, or another kind or size of model.
    """
    if arguments.export is None:
        return
    from response_generator.model import load_config

    key, name = sixteen_bit_base(arguments)
    config = load_config(on_export_base(arguments))
    quantisation = getattr(config, "quantization_config", None)
    found = quantisation_faults(
        key, name, quantisation if isinstance(quantisation, dict | None) else {**vars(quantisation)}
    )
    trained_on = load_config(arguments)
    differing = [field for field in SHAPE if getattr(config, field, None) != getattr(trained_on, field, None)]
    if differing:
        field = differing[0]
        found.append(
            f"{key}: {name}: is another model than base_model: {field} is {getattr(config, field, None)}, in "
            f"{arguments.base_model} {getattr(trained_on, field, None)}; name the 16-bit original of base_model"
        )
    if found:
        raise InputError(*found)


def on_export_base(arguments: DPOArguments) -> DPOArguments:
    return arguments.model_copy(update={"base_model": sixteen_bit_base(arguments)[1]})


def merge(arguments: DPOArguments, adapter: Path) -> Path:
    """Writes base and adapter as one model to `export.path`, which appears whole and checked, or not at all.

    Args:
        adapter: the folder in the run folder that training wrote.

    Returns:
        The folder of the merged model.

    Raises:
        InputError: when base and adapter do not fit.
        TrainingError: when the merged model is not base + adapter, or cannot be computed or written.
    """
    again = f"the adapter is safe in {adapter}; to export again: python -m response_generator.export {adapter.parent}"
    try:
        # A process of its own: on a card unsloth has replaced transformers' model code in this one by code that runs
        # there only, and should memory run out, the system ends that process and not this one.
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
            print(process.submit(merge_here, arguments, adapter).result())
    except BrokenProcessPool as error:
        raise TrainingError(
            f"export: the merging process was ended from outside; it needs memory for the base in 16 bits and one "
            f"layer in 32; {again}"
        ) from error
    except TrainingError as error:
        raise TrainingError(f"{error}; {again}") from error
    except OSError as error:
        raise TrainingError(f"export: {arguments.export.path}: {error}; {again}") from error
    except KeyboardInterrupt:
        raise KeyboardInterrupt(again) from None
    return Path(arguments.export.path)


def merge_here(arguments: DPOArguments, adapter: Path) -> str:
    """`merge` in this process; returns a line that tells of the merged model."""
    from response_generator.backends import import_backend

    import_backend("transformers")
    from response_generator.adapters import AdapterFile
    from response_generator.chat_template import Renderer
    from response_generator.model import check_vocabulary, load_config, load_tokenizer

    check_base(arguments)
    key, _ = sixteen_bit_base(arguments)
    arguments = on_export_base(arguments)
    config, source = load_config(arguments), AdapterFile.read(adapter)
    source.check_fits(key, config)
    tokenizer = load_tokenizer(arguments, source)
    check_vocabulary(tokenizer, source, config.vocab_size, key)
    renderer = Renderer.of(tokenizer, arguments.chat_template)

    target = Path(arguments.export.path)
    target.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as room:
        folder = Path(room, "model")
        differences = write_and_compare(arguments, config, source, renderer, folder)
        if not differences.agree:
            raise TrainingError(disagreement(arguments, differences))
        gigabytes = sum(file.stat().st_size for file in folder.iterdir()) / 1e9
        os.replace(folder, target)
    return (
        f"export: {target}: {gigabytes:.2f} GB in {arguments.export.dtype}; log-probabilities differ from base + "
        f"adapter by {differences.largest:.3f} nats at most (KL divergence {differences.lost:.1e}, the adapter's own "
        f"{differences.effect:.1e})"
    )


def disagreement(arguments: DPOArguments, differences: Differences) -> str:
    coarse = "; bfloat16 may be too coarse for this adapter: try export.dtype float16"
    return (
        f"export: the merged model is not base + adapter: log-probabilities differ by {differences.largest:.3f} nats at "
        f"most, the mean KL divergence is {differences.lost:.1e} nats, where rounding explains {differences.allowed:.1e} "
        f"(the adapter's own is {differences.effect:.1e}); {arguments.export.path} was not written"
        + (coarse if arguments.export.dtype == "bfloat16" else "")
    )


def write_and_compare(arguments, config, source: "AdapterFile", renderer, folder: Path) -> Differences:
    """Writes the merged model and its tokenizer into `folder`, then reads it from there.

    Raises:
        TrainingError: when its numbers leave the range of its dtype.
    """
    import gc

    from transformers import AutoModelForCausalLM

    dialogues = encoded_dialogues(renderer)
    expected, rounding, effect = write_merged(arguments, config, source, renderer.tokenizer, dialogues, folder)
    gc.collect()  # hooks and adapters are cycles, and two models may be more than there is memory for
    trust = arguments.from_pretrained.get("trust_remote_code", False)
    merged = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=trust).eval()
    check_range(merged, dialogues, arguments.export.dtype)
    found = log_probabilities(merged, dialogues)
    return Differences(divergence(expected, found), rounding, effect, (expected - found).abs().max().item())


def write_merged(
    arguments: DPOArguments,
    config: "PretrainedConfig",
    source: "AdapterFile",
    tokenizer: "PreTrainedTokenizerBase",
    dialogues: list["torch.Tensor"],
    folder: Path,
) -> tuple["torch.Tensor", float, float]:
    """Merges on the processor: that is one product a layer, and the card may still be full.

    Returns:
        Log-probabilities of base + adapter, and `Differences.rounding` and `.effect`.
    """
    import torch
    from transformers import AutoModelForCausalLM

    from response_generator.model import TRAINED, add_adapter

    base = AutoModelForCausalLM.from_pretrained(
        arguments.base_model, dtype=getattr(torch, arguments.export.dtype), **model_keywords(arguments, config)
    )
    adapted = add_adapter(base, source, TRAINED).eval()
    expected = log_probabilities(adapted, dialogues)
    rounding = divergence(expected, log_probabilities(adapted, dialogues, noise=torch.finfo(base.dtype).eps))
    with adapted.disable_adapter():
        effect = divergence(expected, log_probabilities(adapted, dialogues))
    merged = merged_model(adapted)
    merged.generation_config.pad_token_id = tokenizer.pad_token_id
    merged.generation_config.eos_token_id = tokenizer.eos_token_id
    merged.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return expected, rounding, effect


def merged_model(adapted) -> "PreTrainedModel":
    """The base with the adapter in its weights, all of one dtype."""
    dtype = adapted.get_base_model().dtype
    # Whole modules that the adapter brings are fp32.
    return adapted.merge_and_unload(safe_merge=True).to(dtype)


def model_keywords(arguments: DPOArguments, config: "PretrainedConfig") -> dict[str, Any]:
    """What `from_pretrained` says about the base itself, such as rope_parameters: it is part of what was trained."""
    fields = {*config.to_dict(), "rope_scaling", "trust_remote_code"} - NOT_OF_THE_MODEL
    return {key: value for key, value in arguments.from_pretrained.items() if key in fields}


def encoded_dialogues(renderer) -> list["torch.Tensor"]:
    """Token ids `(1, length)` of each fixed dialogue, prompt and reply, as the run's own template writes it."""
    import torch

    encoded = []
    for emotion, turns in DIALOGUES:
        *history, reply = (
            {"role": "assistant", "content": {"emotion": emotion, "dialog": words}}
            if number % 2
            else {"role": "user", "content": words}
            for number, words in enumerate(turns[:2])
        )
        text = renderer.prompt(history, emotion) + renderer.completion(history, emotion, reply["content"])
        encoded.append(torch.tensor([renderer.encode(text)]))
    return encoded


def log_probabilities(model, dialogues: list["torch.Tensor"], noise: float = 0.0) -> "torch.Tensor":
    """Of every token of the vocabulary after every token of the dialogues, computed in fp32: `(tokens, vocabulary)`.

    The rounding of 16-bit arithmetic is ten times that of the weights, and would hide it.
    """
    import torch

    with torch.no_grad(), in_fp32(model, noise):
        return torch.cat([model(input_ids=ids, use_cache=False).logits[0].log_softmax(-1) for ids in dialogues])


@contextmanager
def in_fp32(model, noise: float) -> Iterator[None]:
    """Each block has its weights in fp32 while it computes: a whole model in fp32 may be more than there is memory for.

    `noise` moves every weight that an adapter is merged into by a random part of it, uniform in ±`noise` / 2.
    """
    import torch

    stored = {}
    generator = torch.Generator().manual_seed(0)

    def widen(block, _inputs) -> None:
        for name, weight in block.named_parameters():
            stored[weight] = weight.data
            weight.data = weight.data.float()
            if noise and ("base_layer." in name or "modules_to_save." in name):
                weight.data = weight.data * (1 + noise * (torch.rand(weight.shape, generator=generator) - 0.5))

    def narrow(block, _inputs, _outputs) -> None:
        for weight in block.parameters():
            weight.data = stored.pop(weight)

    hooks = [
        hook(block)
        for block in blocks(model)
        for hook in (
            lambda block: block.register_forward_pre_hook(widen),
            lambda block: block.register_forward_hook(narrow),
        )
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for weight, values in stored.items():  # of a block that failed
            weight.data = values


def blocks(module) -> Iterator[Any]:
    """The model's layers, each whole, and the modules before and after them."""
    import torch

    for child in module.children():
        if isinstance(child, torch.nn.ModuleList):
            yield from child
        elif any(isinstance(inner, torch.nn.ModuleList) for inner in child.modules()):
            yield from blocks(child)
        else:
            yield child


def divergence(expected: "torch.Tensor", found: "torch.Tensor") -> float:
    """Mean KL divergence of two tables of log-probabilities `(tokens, vocabulary)`, in nats a token."""
    return (expected.exp() * (expected - found)).sum(-1).mean().item()


def check_range(merged, dialogues: list["torch.Tensor"], dtype: str) -> None:
    """float16 ends at 65504: a model of bfloat16 may have larger numbers inside.

    Raises:
        TrainingError: when it has.
    """
    import torch

    with torch.no_grad():
        logits = merged(input_ids=min(dialogues, key=torch.Tensor.numel), use_cache=False).logits
    if not torch.isfinite(logits).all():
        raise TrainingError(f"export.dtype: {dtype} is too narrow for this model: its logits are not finite")


def read_run(folder: Path, assignments: list[str]) -> DPOArguments:
    """The arguments of a run, with another section `export` where that is wished.

    Raises:
        InputError: with every fault of folder, arguments and assignments.
    """
    if not (folder / "args.json").is_file():
        raise InputError(f"RUN_FOLDER: {folder}: holds no args.json; name the output_dir of a finished run")
    values = command_line.read_json_object(folder / "args.json")
    for assignment in assignments:
        if not assignment.startswith("export."):
            raise InputError(f"--set {assignment}: allowed: keys of the section export; the rest is as it was trained")
        command_line.override(values, assignment)
    arguments = validated(DPOArguments, values, str(folder / "args.json"))
    if arguments.export is None:
        raise InputError("export: null in args.json; say where to: --set export.path=FOLDER")
    found = adapter_faults("RUN_FOLDER", f"{folder / 'adapter'}{os.sep}") + faults(arguments)
    if found:
        raise InputError(*found)
    return arguments


def main() -> None:
    parser = ArgumentParser(
        "python -m response_generator.export", description=__doc__, formatter_class=RawDescriptionHelpFormatter
    )
    parser.add_argument("run_folder", metavar="RUN_FOLDER", type=Path, help="output_dir of a finished training run")
    parser.add_argument("--set", action="append", default=[], metavar="export.KEY=VALUE", help="repeatable")
    options = parser.parse_args()
    merge(read_run(options.run_folder, options.set), options.run_folder / "adapter")


if __name__ == "__main__":
    sys.exit(command_line.run(main))
