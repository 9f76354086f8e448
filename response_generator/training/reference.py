"""The frozen reference: another adapter instead of a copy of the policy, and log-probabilities computed only once."""

import hashlib
import json
import os
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import broadcast_object_list, gather_object, send_to_device
from datasets import Dataset
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from tqdm.auto import tqdm
from trl.trainer.utils import disable_dropout_in_model, hash_module

from response_generator.constants import POLICY_ADAPTER, REFERENCE_ADAPTER, SIDES
from response_generator.modeling import attention
from response_generator.modeling.adapter_file import AdapterFile
from response_generator.modeling.adapters import load_whole_modules
from response_generator.runs import atomic_files
from response_generator.training.trl_trainers import ResumableDPOTrainer

REF_LOGPS_COLUMNS = ("ref_chosen_logps", "ref_rejected_logps")  # as TRL's collator expects them
CHECKSUM_KEY = "sha256"  # in the metadata of a cache file
LIBRARIES = "torch transformers trl peft unsloth bitsandbytes".split()


def load_reference_adapter(policy: PeftModel, adapter: AdapterFile) -> None:
    """Makes `adapter` the reference instead of the copy that TRL made. Rank and target modules may differ."""
    policy.delete_adapter(REFERENCE_ADAPTER)
    policy.load_adapter(adapter.folder, adapter_name=REFERENCE_ADAPTER, is_trainable=False)
    load_whole_modules(policy, adapter, REFERENCE_ADAPTER)
    for layer in policy.modules():
        if isinstance(layer, LoraLayer) and REFERENCE_ADAPTER in layer.lora_dropout:
            # As TRL does with its copy: with dropout the reference would differ at every step.
            disable_dropout_in_model(layer.lora_dropout[REFERENCE_ADAPTER])
    policy.set_adapter(POLICY_ADAPTER)


def precompute_ref_logps(trainer: ResumableDPOTrainer) -> None:
    """Computes the reference's log-probabilities of all pairs once for all epochs, or reads them from the cache.

    The loss is the same as with a reference computed at every step, except for rounding in other batches.
    """
    weights = hash_module(trainer.model)
    trainer.train_dataset = add_ref_logps(trainer, trainer.train_dataset, weights, "training")
    if trainer.eval_dataset is not None:
        trainer.eval_dataset = add_ref_logps(trainer, trainer.eval_dataset, weights, "held-out")
    trainer.precompute_ref_logps = True


def add_ref_logps(trainer: ResumableDPOTrainer, dataset: Dataset, weights: str, name: str) -> Dataset:
    """Adds `ref_chosen_logps` and `ref_rejected_logps` (nats per completion) to `dataset`."""
    file = get_cache_folder() / f"{compute_cache_key(trainer, dataset, weights)}.safetensors"
    # Only the main process looks: several machines have several caches, but all processes must do the same.
    cached = [read_cache(file, len(dataset)) if trainer.is_world_process_zero() else None]
    broadcast_object_list(cached)
    logps = cached[0]
    if logps is None:
        logps = compute_ref_logps(trainer, dataset, f"reference log-probs, {name}")
        if trainer.is_world_process_zero():
            write_cache(logps, file)
    elif trainer.is_world_process_zero():
        print(f"reference log-probs, {name}: from {file}")
    for column, values in zip(REF_LOGPS_COLUMNS, zip(*logps, strict=True), strict=True):
        dataset = dataset.add_column(column, list(values))
    return dataset


def compute_ref_logps(trainer: ResumableDPOTrainer, dataset: Dataset, title: str) -> list[list[float]]:
    """`[chosen, rejected]` of every row. Pairs of similar length share a batch; each process takes every n-th batch."""
    size = trainer.args.precompute_ref_batch_size or trainer.args.per_device_eval_batch_size
    lengths = dataset["length"][:]
    order = sorted(range(len(dataset)), key=lambda row: -lengths[row])
    batches = [order[start : start + size] for start in range(0, len(order), size)]
    mine = batches[trainer.args.process_index :: trainer.args.world_size]
    was_training = trainer.model.training
    trainer.model.eval()
    found = []
    for rows in tqdm(mine, desc=title, unit="batch", disable=not trainer.is_world_process_zero()):
        batch = send_to_device(trainer.data_collator([dataset[row] for row in rows]), trainer.args.device)
        chosen, rejected = trainer.compute_ref_log_probs(trainer.model, batch)
        found += zip(rows, chosen.tolist(), rejected.tolist(), strict=True)
    trainer.model.train(was_training)
    by_row = {row: [chosen, rejected] for row, chosen, rejected in gather_object(found)}
    return [by_row[row] for row in range(len(dataset))]


def get_cache_folder() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home, "response_generator", "reference_logps")


def compute_cache_key(trainer: ResumableDPOTrainer, dataset: Dataset, weights: str) -> str:
    """A hash of everything that the log-probabilities depend on, so any change leads to another file.

    `weights` is a hash of all loaded (quantized) weights, so it covers base and adapter, whatever their folders are
    called. The rows are token ids, so they cover data, template, tokenizer and truncation.
    """
    args, model = trainer.args, trainer.model
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    depends_on = {
        "weights": weights,
        "adapter": to_texts(model.peft_config[REFERENCE_ADAPTER].to_dict() | {"base_model_name_or_path": None}),
        "model": to_texts(model.config.to_dict() | {"_name_or_path": None}),
        "attention": attention.get_attn_implementation(model.get_base_model()),
        "rows": [[row[f"{part}_ids"] for part in ("prompt", "chosen", "rejected")] for row in dataset],
        "max_length": args.max_length,
        "precision": {"bf16": args.bf16, "fp16": args.fp16, "base": str(model.dtype), "tf32": str(args.tf32)},
        "ld_alpha": args.ld_alpha,
        "layout": type(trainer.data_collator).__name__,
        "batch": args.precompute_ref_batch_size or args.per_device_eval_batch_size,
        "device": device,
        "libraries": {name: version(name) for name in LIBRARIES},
    }
    return hashlib.sha256(json.dumps(depends_on, sort_keys=True).encode()).hexdigest()


def to_texts(fields: dict[str, Any]) -> dict[str, str]:
    """The values as text. Sets, such as PEFT's target modules, are sorted: their order is another in every process."""
    return {key: str(sorted(value) if isinstance(value, set) else value) for key, value in fields.items()}


def read_cache(file: Path, rows: int) -> list[list[float]] | None:
    """The log-probabilities in a file, `[chosen, rejected]` of each row. None where there are none, or others than were
    written, which is printed: they are computed again."""
    try:
        if not file.is_file():
            return None
        with safe_open(file, "pt") as cache:
            logps, checksum = cache.get_tensor("logps"), (cache.metadata() or {}).get(CHECKSUM_KEY)
    except (OSError, SafetensorError) as error:
        print(f"reference log-probs: {file} cannot be read ({error}); they are computed again")
        return None
    if logps.shape != (rows, len(SIDES)) or checksum != compute_checksum(logps):
        print(f"reference log-probs: {file} is not as it was written; they are computed again")
        return None
    return logps.tolist()


def write_cache(values: list[list[float]], file: Path) -> None:
    """Writes the log-probabilities of each row; the file is complete or absent. Where none can be written, a line says
    so: the cache only saves time."""
    logps = torch.tensor(values)
    part = file.with_name(f"{file.name}.{os.getpid()}.part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_files.name_file_in_errors(file):
            save_file({"logps": logps}, part, {CHECKSUM_KEY: compute_checksum(logps)})
            os.replace(part, file)
    except OSError as error:
        print(f"reference log-probs: {error.filename} could not be written ({error.strerror}); not kept for later runs")
        with suppress(OSError):
            part.unlink()


def compute_checksum(logps: torch.Tensor) -> str:
    return hashlib.sha256(logps.numpy().tobytes()).hexdigest()
