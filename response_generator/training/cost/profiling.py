"""What a run will cost: its estimated memory, and the time and memory of a few real steps."""

import math
import tempfile
import time
from dataclasses import dataclass

import torch
from huggingface_hub import try_to_load_from_cache
from peft import LoraConfig
from transformers import PreTrainedTokenizerBase, TrainerCallback
from trl import DPOConfig

from response_generator.config.sources import is_local, split_revision
from response_generator.config.training_schema import DPOArguments
from response_generator.data.pair_tokenization import TokenizedPairs, global_batch_size
from response_generator.errors import RunError
from response_generator.modeling import attention, base_config, loading
from response_generator.modeling.adapter_file import AdapterFile
from response_generator.modeling.backend import has_unsloth_gpu_code
from response_generator.training import trainer_config, trainer_setup
from response_generator.training.checkpoints.resume_callbacks import EpochSeededLengthSampler
from response_generator.training.cost import device_memory, memory
from response_generator.training.layout import batch_layout
from response_generator.training.layout.shared_prefix import MAX_ROW_TOKENS, count_pair_tokens, pack
from response_generator.training.reference import REF_LOGPS_COLUMNS
from response_generator.training.trl_trainers import ResumableDPOTrainer

MAX_STEPS = 3  # the longest batch, then two typical ones, which are timed
PROFILE_OVERRIDES = {
    "train_sampling_strategy": "sequential",
    "save_strategy": "no",
    "eval_strategy": "no",
    "load_best_model_at_end": False,
    "lr_scheduler_type": "constant",
    "lr_scheduler_kwargs": None,
    "logging_strategy": "no",
}


@dataclass(frozen=True)
class StepProfile:
    """`step_seconds` of a typical batch, `train_seconds` of the whole run, `peak_memory_gb` of the longest batch."""

    step_seconds: float
    train_seconds: float
    peak_memory_gb: float


class StepTimer(TrainerCallback):
    """Measures the seconds of each step."""

    def __init__(self):
        self.seconds: list[float] = []

    def on_step_begin(self, args, state, control, **kwargs):
        self.began = time.perf_counter()

    def on_step_end(self, args, state, control, **kwargs):
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.seconds.append(time.perf_counter() - self.began)


def estimate_run_memory(
    arguments: DPOArguments, config: DPOConfig, start: AdapterFile | None, train: TokenizedPairs
) -> memory.MemoryEstimate:
    """The memory estimate of one process at the longest batch, of the layout that needs more where it is not known
    which one will be used. No weights are loaded."""
    base, keywords = base_config.load_config(arguments), arguments.from_pretrained
    if start:
        shapes = memory.get_trained_shapes(start)
    else:
        shapes = memory.get_new_lora_shapes(base, LoraConfig(**arguments.lora, task_type="CAUSAL_LM"))
    has_unsloth_kernels = has_unsloth_gpu_code()
    estimates = [
        memory.estimate_memory(
            base,
            shapes,
            get_largest_batch(layout, config, train),
            config,
            four_bit=keywords.get("load_in_4bit", arguments.backend == "unsloth"),
            attention=attention.resolve_attn_implementation(keywords.get("attn_implementation", attention.SDPA)),
            fused=has_unsloth_kernels,
            offloaded=has_unsloth_kernels and keywords.get("use_gradient_checkpointing", "unsloth") == "unsloth",
            process=device_memory.get_process_rss_bytes(),
            width=memory.BF16_BYTES if config.bf16 or config.fp16 else memory.FP32_BYTES,
        )
        for layout in batch_layout.list_possible_layouts(arguments.dpo)
    ]
    return max(estimates, key=lambda estimate: estimate.total)


def get_largest_batch(layout: str, config: DPOConfig, train: TokenizedPairs) -> memory.Batch:
    """The largest batch in that layout."""
    pairs = config.per_device_train_batch_size
    batch = memory.get_longest_batch(train.lengths(), pairs)
    if layout == batch_layout.TRL_LAYOUT:
        return batch
    longest = sorted(train.rows, key=count_pair_tokens, reverse=True)[:pairs]
    rows, _ = pack(longest, None if has_unsloth_gpu_code() else MAX_ROW_TOKENS)
    return memory.Batch(len(rows), max(len(row.ids) for row in rows), batch.replies)


def fits_in_memory(estimate: memory.MemoryEstimate) -> bool:
    """Whether the longest batch fits into the free memory, so that trying a step is safe."""
    return estimate.total - estimate.process <= device_memory.get_free_bytes()


def is_base_model_cached(arguments: DPOArguments) -> bool:
    """True when loading the base needs no download."""
    name, revision = split_revision(arguments.base_model)
    if is_local(name):
        return True
    if has_unsloth_gpu_code() and revision is None:
        from unsloth.models.loader_utils import get_model_name  # it loads a copy that it has quantized before

        name = get_model_name(name, load_in_4bit=arguments.from_pretrained.get("load_in_4bit", True)) or name
    weights = ("model.safetensors", "model.safetensors.index.json")
    return any(isinstance(try_to_load_from_cache(name, file, revision=revision), str) for file in weights)


def profile_steps(
    arguments: DPOArguments, tokenizer: PreTrainedTokenizerBase, start: AdapterFile | None, train: TokenizedPairs
) -> StepProfile:
    """Trains a few steps on a copy of the model that is thrown away, and extrapolates by padded tokens."""
    clock = StepTimer()
    batch = global_batch_size(trainer_config.build_dpo_config(arguments))
    rows = longest_then_typical_rows(train, batch)
    overrides = PROFILE_OVERRIDES | {"max_steps": math.ceil(len(rows) / batch)}
    with tempfile.TemporaryDirectory() as folder:
        profiled = arguments.model_copy(update={"output_dir": folder, "dpo": {**arguments.dpo, **overrides}})
        config = trainer_config.build_dpo_config(profiled)
        policy = loading.load_policy(arguments, start)
        trainer = trainer_setup.build_trainer(
            ResumableDPOTrainer, policy, tokenizer, config, TokenizedPairs(rows=rows), None, [clock]
        )
        layout = batch_layout.choose_layout(trainer, arguments.dpo)
        if arguments.dpo.get("precompute_ref_log_probs"):
            for column in REF_LOGPS_COLUMNS:  # so that a step costs the same; the values do not matter
                trainer.train_dataset = trainer.train_dataset.add_column(column, [0.0] * len(rows))
            trainer.precompute_ref_logps = True
        try:
            trainer.train()
        except torch.OutOfMemoryError as error:
            raise RunError(f"the longest batch does not fit: {error}") from error
    tokens = count_step_tokens(TokenizedPairs(rows=rows), layout, config, order=range(len(rows)))
    # The first step includes warm-up, but a small data set has no other one.
    timed = slice(1, None) if len(tokens) > 1 else slice(None)
    seconds_per_token = sum(clock.seconds[timed]) / sum(tokens[timed])
    return StepProfile(
        step_seconds=sum(clock.seconds[timed]) / len(clock.seconds[timed]),
        train_seconds=seconds_per_token * count_run_tokens(train, arguments, layout),
        peak_memory_gb=device_memory.get_peak_bytes() / 1e9,
    )


def longest_then_typical_rows(train: TokenizedPairs, batch: int) -> list[dict]:
    """The longest batch, then batches of median length, as far as there are rows; no row twice."""
    lengths = train.lengths()["whole"]
    by_length = [train.rows[row] for row in sorted(range(len(lengths)), key=lambda row: -lengths[row])]
    others = by_length[batch:]
    wanted = batch * (MAX_STEPS - 1)
    middle = max(0, (len(others) - wanted) // 2)
    return by_length[:batch] + others[middle : middle + wanted]


def count_run_tokens(train: TokenizedPairs, arguments: DPOArguments, layout: str) -> float:
    """Padded tokens over all epochs, assuming the order of the first epoch in each."""
    config = trainer_config.build_dpo_config(arguments)
    lengths, batch = train.lengths()["whole"], global_batch_size(config)
    if config.train_sampling_strategy == "group_by_length":
        order = list(EpochSeededLengthSampler(lengths, batch, config.seed))
    else:
        order = torch.randperm(len(lengths), generator=torch.Generator().manual_seed(config.seed)).tolist()
    per_epoch = count_step_tokens(train, layout, config, order)
    steps = config.max_steps if config.max_steps > 0 else config.num_train_epochs * len(per_epoch)
    return sum(per_epoch) / len(per_epoch) * steps


def count_step_tokens(tokens: TokenizedPairs, layout: str, config: DPOConfig, order) -> list[int]:
    """Tokens of each step in that layout."""
    if layout == batch_layout.TRL_LAYOUT:
        return count_padded_tokens(tokens.lengths()["whole"], config, order)
    counts = [count_pair_tokens(tokens.rows[row]) for row in order]
    size = global_batch_size(config)
    return [sum(counts[start : start + size]) for start in range(0, len(counts), size)]


def count_padded_tokens(lengths: list[int], config: DPOConfig, order) -> list[int]:
    """Tokens of each step in TRL's layout: chosen and rejected are separate rows, padded to the longest of a batch."""
    size, steps = config.per_device_train_batch_size, []
    ordered = [lengths[row] for row in order]
    for start in range(0, len(ordered), global_batch_size(config)):
        taken = ordered[start : start + global_batch_size(config)]
        batches = [taken[at : at + size] for at in range(0, len(taken), size)]
        steps.append(sum(2 * len(batch) * max(batch) for batch in batches))
    return steps
