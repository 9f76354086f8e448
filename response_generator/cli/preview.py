"""Output before a run starts: one example with its loss mask, token lengths, left out rows, memory and warnings."""

import json
import math
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text
from trl import DPOConfig, SFTConfig

from response_generator.cli.data_preview import console
from response_generator.constants import EMOTIONS
from response_generator.data.chat_template import SAMPLE_HISTORY, ChatFormatter
from response_generator.data.dialogue_tokenization import TokenizedDialogues
from response_generator.data.tokenization import (
    LENGTH_COLUMNS,
    TEXT,
    TokenizedPairs,
    global_batch_size,
    summarize_lengths,
)
from response_generator.preferences.description_table import Rows, show_description
from response_generator.training.device_memory import describe_memory
from response_generator.training.memory import MemoryEstimate, name_parts
from response_generator.training.profiling import StepProfile, fits_in_memory

if TYPE_CHECKING:  # a script imports its own programs alone
    from response_generator.training.preparation import PreparedTraining


def show_training(prepared: "PreparedTraining", description: Rows) -> None:
    """Prints the first pair, counts of dropped and truncated pairs, warnings and the number of steps.

    Args:
        description: of the training pairs.
    """
    formatter, train, held_out = prepared.formatter, prepared.train, prepared.held_out
    show_pairs("training", train, formatter)
    show_template_warnings(formatter)
    if held_out:
        show_counts("held out", held_out, formatter)
        show_shared_pairs(train, held_out)
    show_description(description)
    for line in prepared.changed_settings:
        console.print(Text(line, style="yellow"), soft_wrap=True)
    show_steps(len(train.rows), "pairs", prepared.config)


def show_pairs(name: str, tokens: TokenizedPairs, formatter: ChatFormatter) -> None:
    """Prints the first pair as the trainer gets it, the token lengths and the counts of all pairs."""
    row = tokens.rows[0]
    console.print(f"\n[bold]{name}: the first pair, decoded from its tokens[/bold] (the loss uses only ⟦…⟧)")
    decode = partial(formatter.tokenizer.decode, clean_up_tokenization_spaces=False)
    example = Text(decode(row["prompt_ids"]), style="dim")
    for side, color in (("chosen", "green"), ("rejected", "red")):
        example.append(f"\n  {side:<9}", style="bold not dim")
        example.append(f"⟦{decode(row[side + '_ids'])}⟧", style=f"{color} not dim")
    console.print(example, soft_wrap=True)
    console.print(build_length_table(tokens))
    show_counts(name, tokens, formatter)


def show_counts(name: str, tokens: TokenizedPairs, formatter: ChatFormatter) -> None:
    """Prints how many pairs were used, dropped and truncated, and warnings about their content."""
    console.print(
        f"{name}: pairs read {tokens.read}, used {len(tokens.rows)}, dropped {tokens.dropped.total()}, truncated "
        f"{tokens.truncated}"
    )
    show_dropped(tokens)
    if tokens.truncated:
        console.print("[yellow]a truncated completion has no EOS: raise max_length, or remove such pairs[/yellow]")
    if tokens.merged:
        console.print(
            f"[yellow]in {tokens.merged} pairs one token would span the end of the prompt and the start of a "
            f"completion; the completion is tokenized alone[/yellow]"
        )
    if formatter.required_markers and not tokens.missing_markers:
        console.print(
            Text(f"the required markers {', '.join(map(repr, formatter.required_markers))} are in every prompt")
        )
    show_missing_markers(tokens)
    show_special_tokens(tokens.special_tokens, "pairs")
    show_prompts_without_emotion(tokens, formatter)


def show_dropped(tokens: TokenizedPairs | TokenizedDialogues) -> None:
    for reason, count in sorted(tokens.dropped.items()):
        console.print(f"[yellow]dropped {count}: {reason}[/yellow]")


def show_missing_markers(tokens: TokenizedPairs | TokenizedDialogues) -> None:
    for marker, count in tokens.missing_markers.items():
        console.print(
            Text(f"the required marker {marker!r} is missing in {count} of {tokens.read} prompts", style="yellow")
        )


def show_special_tokens(counts: Counter, rows: str) -> None:
    """Warns about special tokens in the text of messages."""
    for token, count in sorted(counts.items()):
        message = (
            f"warning: the text of {count} {rows} contains the special token {token!r}; the model cannot tell it from "
            f"those of the chat template"
        )
        console.print(Text(message, style="yellow"), soft_wrap=True)


def show_prompts_without_emotion(tokens: TokenizedPairs, formatter: ChatFormatter) -> None:
    """Warns about prompts that do not end with a target emotion, unlike all prompts of an evaluation."""
    for form, count in tokens.prompts_without_emotion.items():
        if not count:
            continue
        reason = (
            "plain text, which is used unchanged: no roles and no target emotion are added to it"
            if form == TEXT
            else "messages without a target emotion: their content is text, not an object"
        )
        message = (
            f"warning: {count} of {tokens.read} pairs are {reason}. In evaluation the chat template renders every "
            f"prompt with a target emotion, for example {formatter.prompt(SAMPLE_HISTORY, EMOTIONS[1])!r}. Use rows "
            f'whose prompt, chosen and rejected are messages with the content {{"emotion": …, "dialog": …}}'
        )
        if form == TEXT:
            message += ", or text rendered with this template, including its special tokens"
        console.print(Text(message, style="yellow"), soft_wrap=True)


def show_template_warnings(formatter: ChatFormatter) -> None:
    """Warns when the adapter was trained with another template than the one in the args, and when the template writes
    special tokens that the tokenizer does not have."""
    for marker, count in formatter.split_markers.items():
        message = (
            f"warning: {marker!r} of the chat template is no special token of this tokenizer: it becomes {count} "
            f"ordinary tokens"
        )
        console.print(Text(message, style="yellow"), soft_wrap=True)
    if formatter.other_template:
        message = (
            f"warning: the adapter was saved with another chat template than {formatter.file}, so it was trained on "
            f"other prompts; set chat_template.file to the chat_template.jinja in the folder of the adapter"
        )
        console.print(Text(message, style="yellow"), soft_wrap=True)


def show_shared_pairs(train: TokenizedPairs, held_out: TokenizedPairs) -> None:
    """Warns about held-out pairs that are also training pairs: their metrics say nothing about new data."""
    training_rows = {json.dumps(row) for row in train.rows}
    shared = sum(json.dumps(row) in training_rows for row in held_out.rows)
    if shared:
        message = (
            f"warning: {shared} of {len(held_out.rows)} held-out pairs are also training pairs; name another "
            f"eval_dataset"
        )
        console.print(f"[yellow]{message}[/yellow]", soft_wrap=True)


def show_steps(count: int, rows: str, config: DPOConfig | SFTConfig) -> None:
    """Prints the number of optimizer steps of the run.

    Args:
        count: the number of training rows.
        rows: what they are.
    """
    batch_size = global_batch_size(config)
    epoch_steps = math.ceil(count / batch_size)
    total_steps = config.max_steps if config.max_steps > 0 else math.ceil(config.num_train_epochs * epoch_steps)
    if batch_size > count:
        console.print(
            f"[yellow]the batch size is {batch_size}, but there are only {count} {rows}: an epoch is one step[/yellow]",
            soft_wrap=True,
        )
    if config.warmup_steps > total_steps:
        console.print(
            f"[yellow]warmup_steps ({config.warmup_steps:g}) is more than the steps of the run: the learning rate "
            f"never reaches {config.learning_rate:g}[/yellow]",
            soft_wrap=True,
        )
    console.print(f"batch size {min(batch_size, count)}, {epoch_steps} steps per epoch, {total_steps} steps in total\n")


def show_memory(expected: MemoryEstimate) -> None:
    """Prints the parts of the estimated memory and the memory of the device."""
    name, total = describe_memory()
    table = Table(title="estimated memory in training (GB)", title_justify="left", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for part, size in name_parts(expected):
        table.add_row(part, f"{size / 1e9:.2f}")
    table.add_row("total", f"{expected.total / 1e9:.2f}", style="bold")
    table.add_row(f"memory of {name}", f"{total / 1e9:.2f}")
    console.print(table)
    if not fits_in_memory(expected):
        console.print(
            "[yellow]this does not fit into the free memory, so no step was tried: lower "
            "dpo.per_device_train_batch_size or dpo.max_length, or set dpo.gradient_checkpointing: true[/yellow]",
            soft_wrap=True,
        )


def show_step_profile(profile: StepProfile) -> None:
    """Prints the expected time of the run and its peak memory, measured in a few real steps."""
    hours, minutes = divmod(round(profile.train_seconds / 60), 60)
    console.print(
        f"measured: {profile.step_seconds:.2f} s per step, so training takes about {hours} h {minutes} min without "
        f"evaluations; {profile.peak_memory_gb:.2f} GB for the longest batch",
        soft_wrap=True,
    )


def build_length_table(tokens: TokenizedPairs | TokenizedDialogues) -> Table:
    table = Table(title="tokens", title_justify="left")
    for heading in LENGTH_COLUMNS:
        table.add_column(heading, justify="left" if heading == LENGTH_COLUMNS[0] else "right")
    for row in summarize_lengths(tokens.lengths()):
        table.add_row(*row)
    return table
