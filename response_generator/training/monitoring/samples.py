"""Sample replies during training: the same few prompts again and again, so that one can read what training changes."""

import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from accelerate.utils.memory import clear_device_cache
from transformers import GenerationConfig, TrainerCallback
from trl.trainer.utils import use_adapter

from response_generator.config.training_schema import SampleArguments
from response_generator.constants import POLICY_ADAPTER, REFERENCE_ADAPTER
from response_generator.data.chat_template import ChatFormatter
from response_generator.data.datasets import Dialogue, Pair
from response_generator.data.pair_text import find_target_emotion, get_reply_text
from response_generator.data.pair_tokenization import find_leading_spaces, render_pair
from response_generator.data.prompt_tokens import tokenize_prompt
from response_generator.errors import InputError
from response_generator.generation.continuous_batching import write_replies
from response_generator.generation.generation_requests import (
    SAMPLING_DEFAULTS,
    BatchLimit,
    GenerationRequest,
    Replies,
    SamplingParams,
    decode_reply,
)
from response_generator.generation.kv_cache import has_full_attention
from response_generator.generation.oom import is_oom
from response_generator.modeling.cpu_inference import fast_cpu_inference
from response_generator.runs import json_lines
from response_generator.runs.terminal import to_one_line
from response_generator.runs.tracking import Tracker
from response_generator.training.monitoring.progress_bar import ProgressBar
from response_generator.training.monitoring.step_files import drop_later_rows, read_rows
from response_generator.training.trl_trainers import ResumableTrainer

POLICY, REFERENCE = "policy", "reference"  # in samples.jsonl
ADAPTERS = {POLICY: POLICY_ADAPTER, REFERENCE: REFERENCE_ADAPTER}
# As in the evaluation of the original recipe.
SETTINGS = SAMPLING_DEFAULTS | {"do_sample": True, "top_k": 3, "top_p": 0.9, "repetition_penalty": 1.1}
SEARCHED_ROWS = 200
TURN_SEPARATOR = " | "
STATUS = "writing sample replies …"
COLUMNS_OF_FILE = 160  # of a line where the output is not a terminal
TABLE_COLUMNS = ("step", "target_emotion", "prompt", "model", "response")  # of the tracker's table


def choose_prompts(
    rows: Sequence[Pair] | Sequence[Dialogue], formatter: ChatFormatter, settings: SampleArguments | None, context: int
) -> list[GenerationRequest]:
    """Chooses different prompts from the first rows, with as many target emotions as possible.

    Args:
        settings: None: no prompts.
        context: the tokens that the model can take; prompts that leave no room for a reply are not chosen.

    Raises:
        InputError: when no prompt leaves room for a reply.
    """
    if settings is None:
        return []
    room = context - settings.max_new_tokens
    by_prompt: dict[str, GenerationRequest] = {}
    by_emotion: dict[str, GenerationRequest] = {}
    for row in islice(rows, SEARCHED_ROWS):
        request = build_request(row, formatter)
        if request.length <= room and by_prompt.setdefault(request.prompt, request) is request:
            by_emotion.setdefault(request.dialogue.target_emotion, request)
    if not by_prompt:
        raise InputError(
            f"sample_replies.max_new_tokens: got {settings.max_new_tokens}; no prompt of the first {SEARCHED_ROWS} "
            f"rows leaves room for so many tokens in the model's context, which holds {context}; lower it"
        )
    others = [request for request in by_prompt.values() if request not in by_emotion.values()]
    return [*by_emotion.values(), *others][: settings.prompts]


def build_request(row: Pair | Dialogue, formatter: ChatFormatter) -> GenerationRequest:
    """The prompt of a row, without its gold reply."""
    if isinstance(row, Dialogue):
        return replace(GenerationRequest.of(row, formatter), gold_ids=[])
    prompt, _, _ = render_pair(row, formatter)
    turns = [{"role": "prompt", "content": row.prompt}] if isinstance(row.prompt, str) else row.prompt
    dialogue = Dialogue(row.index, turns, find_target_emotion(row, formatter.labels), get_reply_text(row.chosen))
    prompt_ids = tokenize_prompt(prompt, formatter, find_leading_spaces(row))
    return GenerationRequest(dialogue, prompt, prompt_ids, gold_ids=[])


class SampleReplies(TrainerCallback):
    """Lets the policy, and before the first step also the reference, reply to the prompts, and writes the replies to a
    file, to the tracker and above the progress bar.

    Each prompt has random numbers of its own, the same at every step. Nothing that training uses is changed: neither
    the model nor the global random generators. Only the main process generates; the others wait for it in their next
    step.

    Args:
        requests: the prompts; none: no replies.
        seed: of the run.
        progress: says that replies are being written.
    """

    def __init__(
        self,
        trainer: ResumableTrainer,
        requests: Sequence[GenerationRequest],
        settings: SampleArguments | None,
        seed: int,
        file: Path,
        tracker: Tracker,
        progress: ProgressBar,
    ):
        self.trainer = trainer
        self.requests = requests if trainer.is_world_process_zero() else []
        self.settings = settings
        self.seed = seed
        self.file = file
        self.tracker = tracker
        self.progress = progress
        self.model = trainer.accelerator.unwrap_model(trainer.model)
        if self.requests and not has_full_attention(self.model.get_base_model()):
            self.stop("the model has layers that do not attend to all earlier tokens")

    def stop(self, reason: str) -> None:
        print(f"samples: {reason}; this run writes no sample replies from here on", file=sys.stderr)
        self.requests = []

    def on_train_begin(self, args, state, control, **kwargs):
        if state.is_world_process_zero:
            drop_later_rows(self.file, state.global_step)
        for number, request in enumerate(self.requests, 1):
            show_prompt(number, request.dialogue.history)
        if state.global_step == 0:
            self.write(0, [name for name, adapter in ADAPTERS.items() if adapter in self.model.peft_config])

    def on_step_end(self, args, state, control, **kwargs):
        if self.settings and state.global_step % self.settings.every_steps == 0:
            self.write(state.global_step, [POLICY])

    def write_last(self, step: int) -> None:
        """Writes the replies of the trained adapter, if those of its step are not written.

        Args:
            step: the one that the adapter is from.
        """
        if step not in {row["step"] for row in read_rows(self.file)}:
            self.write(step, [POLICY])

    def write(self, step: int, models: Sequence[str]) -> None:
        if not self.requests:
            return
        try:
            with self.progress.show_status(STATUS, self.trainer.state):
                rows = [row for model in models for row in self.build_rows(step, model)]
        except RuntimeError as error:
            if not is_oom(error):
                raise
            reason = str(error).splitlines()[0]
        else:
            json_lines.append_jsonl(self.file, rows)
            self.show(step, [row for row in rows if row["model"] == POLICY])
            cells = [to_cells(row) for row in read_rows(self.file)]
            # Not `step`: that of the best adapter is an earlier one, and wandb takes no earlier steps.
            self.tracker.log_table("samples", list(TABLE_COLUMNS), cells, self.trainer.state.global_step)
            return
        # Not inside the except block: there the error still refers to the tensors that did not fit.
        clear_device_cache(garbage_collection=True)
        self.stop(f"out of memory ({reason})")

    def build_rows(self, step: int, model: str) -> Iterator[dict[str, Any]]:
        for replies in self.generate(ADAPTERS[model]):
            tokens, dialogue = replies.samples[0], replies.request.dialogue
            yield {
                "step": step,
                "index": dialogue.index,
                "prompt": dialogue.history,
                "target_emotion": dialogue.target_emotion,
                "model": model,
                "response": decode_reply(tokens, self.trainer.processing_class),
                "new_tokens": len(tokens),
                "hit_max_new_tokens": tokens[-1] != self.trainer.processing_class.eos_token_id,
            }

    def generate(self, adapter: str) -> list[Replies]:
        """The replies of one of the model's adapters to all prompts, in their order."""
        tokenizer = self.trainer.processing_class
        settings = SETTINGS | {"max_new_tokens": self.settings.max_new_tokens}
        # Not build_generation_config, which tries the settings with a random model.
        config = GenerationConfig(**settings, pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id)
        params = SamplingParams(config, self.seed, samples=1)
        model, was_training = self.model, self.model.training
        # Not the PeftModel: accelerate lets its forward convert all outputs, the KV cache included, to float32.
        base = model.get_base_model()
        model.eval()
        try:
            with use_adapter(model, adapter), fast_cpu_inference(model), self.trainer.accelerator.autocast():
                replies = list(write_replies(base, self.requests, params, BatchLimit(len(self.requests))))
        finally:
            model.train(was_training)
        return sorted(replies, key=lambda each: self.requests.index(each.request))

    def show(self, step: int, rows: Sequence[dict[str, Any]]) -> None:
        """Prints a line for each reply."""
        for number, row in enumerate(rows, 1):
            print_short(f"step {step}, reply {number} ({row['target_emotion'] or 'no target'}): {row['response']}")


def get_turn_text(turn: dict[str, Any]) -> str:
    return get_reply_text(turn["content"])


def to_cells(row: dict[str, Any]) -> list[Any]:
    """A row of the tracker's table."""
    texts = row | {"prompt": "\n".join(get_turn_text(turn) for turn in row["prompt"])}
    return [texts[name] for name in TABLE_COLUMNS]


def show_prompt(number: int, turns: Sequence[dict[str, Any]]) -> None:
    """Prints one line with the end of a dialogue: as much as the terminal has columns for."""
    title = f"sample prompt {number}: "
    text = to_one_line(TURN_SEPARATOR.join(f"{turn['role']}: {get_turn_text(turn)}" for turn in turns))
    columns = max(1, count_columns() - len(title))
    print(title + (text if len(text) <= columns else "…" + text[len(text) - columns + 1 :]), file=sys.stderr)


def print_short(text: str) -> None:
    """Prints one line, which ends where the terminal does."""
    text, columns = to_one_line(text), count_columns()
    print(text if len(text) <= columns else text[: columns - 1] + "…", file=sys.stderr)


def count_columns() -> int:
    return shutil.get_terminal_size((COLUMNS_OF_FILE, 0)).columns - 1
