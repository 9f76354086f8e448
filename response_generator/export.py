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

if TYPE_CHECKING:  # `faults` is asked for before torch may be imported
    import torch
    from peft import PeftModel
    from transformers import PreTrainedModel

    from response_generator.adapters import AdapterFile
    from response_generator.chat_template import Renderer

SHAPE = "model_type hidden_size intermediate_size num_hidden_layers num_attention_heads num_key_value_heads".split()
NOT_OF_THE_MODEL = {"dtype", "use_cache"}  # how training loads and runs the base, not what the base is
DIALOGUES = (  # the emotion of the replies; words of the user and of the bot in turn
    ("happiness", ("I got the job !", "Really ? Congratulations !", "I start on Monday .", "That is wonderful news !")),
    ("anger", ("I left the door open again .", "That is enough ! I told you twice !")),
    ("sadness", ("Our old dog died last night .", "I am so sorry . I will miss him .")),
)
ROUNDING = 2  # times the divergence that rounding explains; measured: 1.00, and 0.9 to 1.1 for DoRA and single tokens
LOSS = 0.1  # of the divergence between base + adapter and the bare base, at most lost by rounding
ARITHMETIC = 1e-8  # nats; fp32 sums in another order


class Differences(NamedTuple):
    """Between base + adapter and other models on the dialogues above; mean KL divergences in nats a token."""

    lost: float
    """To the merged model, as read from its files."""
    rounding: float
    """To base + adapter with every merged weight rounded to the export's dtype, computed without merging."""
    effect: float
    """To the bare base: what the adapter does."""
    largest: float
    """The largest difference of any token's log-probability to the merged model, in nats."""

    @property
    def agree(self) -> bool:
        return self.lost <= ROUNDING * self.rounding + ARITHMETIC  # nan is not

    @property
    def keep_the_adapter(self) -> bool:
        """Updates of less than half a step of the dtype vanish; together they may be the whole adapter."""
        return self.lost <= LOSS * self.effect + ARITHMETIC


def faults(arguments: DPOArguments) -> list[str]:
    """What would make an export fail, as far as files here tell; empty when nothing is exported."""
    if arguments.export is None:
        return []
    return path_faults(arguments) + base_faults(arguments)


def path_faults(arguments: DPOArguments) -> list[str]:
    path, run = Path(arguments.export.path), Path(arguments.output_dir)
    key = f"export.path: {path}"
    if run.resolve().is_relative_to(path.resolve()) or path.resolve().is_relative_to((run / "adapter").resolve()):
        return [f"{key}: would mix with the files of the run; name a folder of its own, for example {run / 'merged'}"]
    try:
        if path.is_dir() and any(path.iterdir()):
            return [f"{key}: is not empty; name a new folder, or an empty one"]
        if path.exists() and not path.is_dir():
            return [f"{key}: is a file; name a new folder, or an empty one"]
        nearest = next(place for place in path.absolute().parents if place.exists())
        with TemporaryDirectory(dir=nearest):
            return []
    except OSError as error:
        return [f"{key}: cannot be written ({error.strerror}); name another folder"]


def base_faults(arguments: DPOArguments) -> list[str]:
    key, name = sixteen_bit_base(arguments)
    if not is_local(name):
        return []  # its configuration is read by `check_base`
    if not Path(name, "config.json").is_file():
        return model_faults(key, name) if key != "base_model" else []  # preflight tells of base_model itself
    try:
        config = json.loads(Path(name, "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        return [f"{key}: {name}: its config.json cannot be read ({error}); fetch the model again"]
    return quantisation_faults(key, name, config.get("quantization_config"))


def quantisation_faults(key: str, name: str, quantisation: dict[str, Any] | None) -> list[str]:
    if not quantisation:
        return []
    method = quantisation.get("quant_method", "by an unknown method")
    return [f"{key}: {name}: is pre-quantised ({method}); name its 16-bit original in export.base_model"]


def sixteen_bit_base(arguments: DPOArguments) -> tuple[str, str]:
    """The key that names the base to merge into, and its value."""
    if arguments.export.base_model is not None:
        return "export.base_model", arguments.export.base_model
    return "base_model", arguments.base_model


def on_sixteen_bit_base(arguments: DPOArguments) -> DPOArguments:
    return arguments.model_copy(update={"base_model": sixteen_bit_base(arguments)[1]})


def check_base(arguments: DPOArguments) -> None:
    """Compares the configuration of the base to merge into, from the hub if need be, with the one trained on.

    Raises:
        InputError: when it is quantised, or a model of another kind or size.
    """
    if arguments.export is None:
        return
    from response_generator.model import load_config

    key, name = sixteen_bit_base(arguments)
    original, trained_on = load_config(on_sixteen_bit_base(arguments)), load_config(arguments)
    found = quantisation_faults(key, name, getattr(original, "quantization_config", None))
    for field in SHAPE:
        here, there = getattr(original, field, None), getattr(trained_on, field, None)
        if here != there:
            found.append(f"{key}: {name}: is not the original of base_model: {field} is {here}, in base_model {there}")
    if found:
        raise InputError(*found)


def merge(arguments: DPOArguments, adapter: Path) -> Path:
    """Writes base and adapter as one model to `export.path`, which appears whole and checked, or not at all.

    Args:
        adapter: the folder that training wrote into the run folder.

    Returns:
        The folder of the merged model.

    Raises:
        InputError: when base and adapter do not fit.
        TrainingError: when the merged model is not base + adapter, or cannot be computed or written.
    """
    again = f"the adapter is safe in {adapter}; to export again: python -m response_generator.export {adapter.parent}"
    try:
        # A process of its own: for a card unsloth puts model code into transformers that runs there only, and where
        # memory does not suffice, the system ends that process and not this one.
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
            print(process.submit(merge_here, arguments, adapter).result())
    except BrokenProcessPool as error:
        raise TrainingError(
            f"export: its process was ended from outside; it needs memory for the base in 16 bits, and more for one "
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
    """`merge` in this process; returns a line about the merged model."""
    from response_generator.backends import import_backend

    import_backend("transformers")
    source, renderer = checked_adapter(arguments, adapter)
    target = Path(arguments.export.path)
    target.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as room:
        folder = Path(room, "model")
        differences = write_and_compare(on_sixteen_bit_base(arguments), source, renderer, folder)
        check_differences(arguments, differences)
        gigabytes = sum(file.stat().st_size for file in folder.iterdir()) / 1e9
        os.replace(folder, target)
    return (
        f"export: {target}: {gigabytes:.2f} GB in {arguments.export.dtype}; log-probabilities differ from base + "
        f"adapter by {differences.largest:.3f} nats at most (KL divergence {differences.lost:.1e}, the adapter's own "
        f"{differences.effect:.1e})"
    )


def checked_adapter(arguments: DPOArguments, adapter: Path) -> tuple["AdapterFile", "Renderer"]:
    """The adapter's file, and the tokenizer and template it was trained with: those beside it where there are any.

    Raises:
        InputError: when it does not fit the base to merge into.
    """
    from response_generator.adapters import AdapterFile
    from response_generator.chat_template import Renderer
    from response_generator.model import check_vocabulary, load_config, load_tokenizer

    check_base(arguments)
    key, _ = sixteen_bit_base(arguments)
    arguments = on_sixteen_bit_base(arguments)
    config, source = load_config(arguments), AdapterFile.read(adapter)
    source.check_fits(key, config)
    tokenizer, template = load_tokenizer(arguments, source), arguments.chat_template
    check_vocabulary(tokenizer, source, config.vocab_size, key)
    if source.has_tokenizer and tokenizer.chat_template:
        return source, Renderer(tokenizer, template.marks, template.system_prompt)
    return source, Renderer.of(tokenizer, template)


def check_differences(arguments: DPOArguments, found: Differences) -> None:
    """Raises TrainingError when the merged model is not base + adapter, or hardly any more than the base."""
    path, dtype = arguments.export.path, arguments.export.dtype
    if not found.agree:
        raise TrainingError(
            f"export: the merged model is not base + adapter: their mean KL divergence is {found.lost:.1e} nats, where "
            f"rounding to {dtype} explains {found.rounding:.1e}, and log-probabilities differ by {found.largest:.3f} "
            f"nats at most; {path} was not written"
        )
    if not found.keep_the_adapter:
        way_out = "set export.dtype to float16" if dtype == "bfloat16" else "use base and adapter apart"
        raise TrainingError(
            f"export.dtype: {dtype} is too coarse for this adapter: its rounding changes the model by {found.lost:.1e} "
            f"nats (mean KL divergence), the adapter by {found.effect:.1e}; {path} was not written; {way_out}"
        )


def write_and_compare(
    arguments: DPOArguments, source: "AdapterFile", renderer: "Renderer", folder: Path
) -> Differences:
    """Writes the merged model and its tokenizer into `folder`, and compares what is read from there.

    Raises:
        TrainingError: when the merged model's numbers leave the range of its dtype.
    """
    import gc

    from transformers import AutoModelForCausalLM

    dialogues = encoded(renderer)
    expected, rounding, effect = write_merged(arguments, source, renderer, dialogues, folder)
    gc.collect()  # a model with adapters is full of cycles, and memory may not suffice for two
    merged = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=trusted(arguments)).eval()
    check_range(merged, dialogues, arguments.export.dtype)
    found = log_probabilities(merged, dialogues)
    return Differences(divergence(expected, found), rounding, effect, (expected - found).abs().max().item())


def write_merged(
    arguments: DPOArguments,
    source: "AdapterFile",
    renderer: "Renderer",
    dialogues: list["torch.Tensor"],
    folder: Path,
) -> tuple["torch.Tensor", float, float]:
    """Merges on the processor: it is one product a layer, and the card may still be full.

    Returns:
        Log-probabilities of base + adapter, and `Differences.rounding` and `.effect`.

    Raises:
        OSError: when `folder` cannot be written.
    """
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    from response_generator.model import TRAINED, add_adapter

    dtype = getattr(torch, arguments.export.dtype)
    base = AutoModelForCausalLM.from_pretrained(arguments.base_model, dtype=dtype, **model_keywords(arguments))
    adapted = add_adapter(base, source, TRAINED).eval()
    expected = log_probabilities(adapted, dialogues)
    rounding = divergence(expected, log_probabilities(adapted, dialogues, rounded_to=dtype))
    with adapted.disable_adapter():
        effect = divergence(expected, log_probabilities(adapted, dialogues))
    merged = merged_model(adapted)
    merged.generation_config.pad_token_id = renderer.tokenizer.pad_token_id
    merged.generation_config.eos_token_id = renderer.tokenizer.eos_token_id
    try:
        merged.save_pretrained(folder)
    except SafetensorError as error:
        raise OSError(str(error)) from error
    renderer.tokenizer.save_pretrained(folder)
    return expected, rounding, effect


def merged_model(adapted: "PeftModel") -> "PreTrainedModel":
    """The base with the adapter in its weights.

    Raises:
        TrainingError: when the adapter cannot be merged, or a weight is not finite.
    """
    try:
        return adapted.merge_and_unload(safe_merge=True)
    except (ValueError, RuntimeError) as error:  # PEFT's words for both
        raise TrainingError(f"export: {error}") from error


def model_keywords(arguments: DPOArguments) -> dict[str, Any]:
    """What `from_pretrained` says of the base itself, such as rope_scaling: the adapter was trained on that."""
    from response_generator.model import load_config

    fields = {*load_config(arguments).to_dict(), "rope_scaling"} - NOT_OF_THE_MODEL
    keywords = {key: value for key, value in arguments.from_pretrained.items() if key in fields}
    return keywords | {"trust_remote_code": trusted(arguments)}


def trusted(arguments: DPOArguments) -> bool:
    return arguments.from_pretrained.get("trust_remote_code", False)


def encoded(renderer: "Renderer") -> list["torch.Tensor"]:
    """Token ids `(1, length)` of each fixed dialogue, its last reply included."""
    import torch

    dialogues = []
    for emotion, words in DIALOGUES:
        *history, reply = [
            {"role": "assistant", "content": {"emotion": emotion, "dialog": said}}
            if number % 2
            else {"role": "user", "content": said}
            for number, said in enumerate(words)
        ]
        text = renderer.prompt(history, emotion) + renderer.completion(history, emotion, reply["content"])
        dialogues.append(torch.tensor([renderer.encode(text)]))
    return dialogues


def log_probabilities(
    model: "PreTrainedModel | PeftModel", dialogues: list["torch.Tensor"], rounded_to: "torch.dtype | None" = None
) -> "torch.Tensor":
    """Of every token of the vocabulary after every token of the dialogues: `(tokens, vocabulary)`, computed in fp32.

    16-bit arithmetic differs from itself by ten times what the rounding of weights does, and would hide it.
    """
    import torch

    with torch.no_grad(), in_fp32(model, rounded_to):
        return torch.cat([model(input_ids=ids, use_cache=False).logits[0].log_softmax(-1) for ids in dialogues])


@contextmanager
def in_fp32(model: "PreTrainedModel | PeftModel", rounded_to: "torch.dtype | None") -> Iterator[None]:
    """Each block has its weights in fp32 while it computes: for the whole model memory may not suffice.

    With `rounded_to` a model with an adapter computes as if the adapter had been merged into weights of that dtype.
    """
    stored = {}

    def widen(block, _inputs) -> None:
        for weight in block.parameters():
            stored[weight] = weight.data
            weight.data = weight.data.float()
        if rounded_to is not None:
            round_sums(block, rounded_to)

    def narrow(block, _inputs, _outputs) -> None:
        for weight in block.parameters():
            weight.data = stored.pop(weight)

    hooks = []
    for block in blocks(model):
        hooks += [block.register_forward_pre_hook(widen), block.register_forward_hook(narrow)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for weight, values in stored.items():  # of a block that failed
            weight.data = values


def round_sums(block: "torch.nn.Module", dtype: "torch.dtype") -> None:
    """Moves base weights so that, with what the adapter adds as it computes, they are the sums that merging stores."""
    from peft.tuners.lora import Embedding, Linear

    for module in block.modules():
        if isinstance(module, (Linear, Embedding)):
            base, update = module.get_base_layer().weight, module.get_delta_weight(module.active_adapters[0])
            # PEFT rounds the update, then the sum.
            base.data = (base.data + update.to(dtype).float()).to(dtype).float() - update


def blocks(module: "torch.nn.Module") -> Iterator["torch.nn.Module"]:
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


def check_range(merged: "PreTrainedModel", dialogues: list["torch.Tensor"], dtype: str) -> None:
    """float16 ends at 65504, and a model made in bfloat16 may have larger numbers inside, which fp32 hides.

    Raises:
        TrainingError: when it has.
    """
    import torch

    with torch.no_grad():
        logits = merged(input_ids=min(dialogues, key=torch.Tensor.numel), use_cache=False).logits
    if not torch.isfinite(logits).all():
        raise TrainingError(f"export.dtype: {dtype} is too narrow for this model: its logits are not finite")


def read_run(folder: Path, assignments: list[str]) -> DPOArguments:
    """The arguments of a run, with the section `export` changed as `assignments` say.

    Raises:
        InputError: with every fault of folder, arguments and assignments.
    """
    if not (folder / "args.json").is_file():
        raise InputError(f"RUN_FOLDER: {folder}: holds no args.json; name the output_dir of a finished training run")
    values = command_line.read_json_object(folder / "args.json")
    for assignment in assignments:
        if not assignment.startswith("export."):
            raise InputError(f"--set {assignment}: allowed: keys of the section export; the rest was trained as it is")
        command_line.override(values, assignment)
    arguments = validated(DPOArguments, values, str(folder / "args.json"))
    if arguments.export is None:
        raise InputError("export: null in args.json; say where to: --set export.path=FOLDER")
    arguments = arguments.model_copy(update={"output_dir": str(folder)})  # it may have been moved
    found = adapter_faults("RUN_FOLDER", str((folder / "adapter").absolute())) + faults(arguments)
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
