"""Output before SFT or DPO starts: one row with its loss mask, lengths, left out rows, steps, memory and warnings."""

import json
import math
from functools import partial
from itertools import groupby

from rich.table import Table
from rich.text import Text

from response_generator.cli.data_preview import console, show_warning
from response_generator.cli.preview import (
    show_counts,
    show_dropped,
    show_missing_markers,
    show_special_tokens,
    show_template_warnings,
)
from response_generator.data.chat_template import ChatFormatter
from response_generator.data.dialogue_tokenization import IGNORED_LABEL, TokenizedDialogues
from response_generator.data.pair_tokenization import (
    LENGTH_COLUMNS,
    TokenizedPairs,
    TokenizedRows,
    global_batch_size,
    summarize_lengths,
)
from response_generator.preferences.description_table import Rows, show_description
from response_generator.training.cost.device_memory import describe_memory
from response_generator.training.cost.memory import MemoryEstimate, name_parts
from response_generator.training.cost.profiling import StepProfile, fits_in_memory
from response_generator.training.preparation import Config, PreparedTraining


def show_pairs(prepared: PreparedTraining, description: Rows) -> None:
    """Prints the first pair, counts of dropped and truncated pairs, warnings and the number of steps.

    Args:
        description: of the training pairs.
    """
    formatter, train, held_out = prepared.formatter, prepared.train, prepared.held_out
    show_first_pair(train, formatter)
    console.print(build_length_table(train))
    show_counts("training", train, formatter)
    show_template_warnings(formatter)
    if held_out:
        show_counts("held out", held_out, formatter)
        show_shared_pairs(train, held_out)
    show_description(description)
    show_settings(prepared)


def show_dialogues(prepared: PreparedTraining) -> None:
    """Prints the first dialogue, counts of dropped and truncated dialogues, warnings and the number of steps."""
    show_first_dialogue(prepared.train, prepared.formatter)
    console.print(build_length_table(prepared.train))
    show_dialogue_counts("training", prepared.train)
    show_template_warnings(prepared.formatter)
    if prepared.held_out:
        show_dialogue_counts("held out", prepared.held_out)
    show_settings(prepared)


def show_settings(prepared: PreparedTraining) -> None:
    """Prints which settings the device changes, and the number of steps."""
    for line in prepared.changed_settings:
        show_warning(line)
    show_steps(len(prepared.train.rows), prepared.method.unit, prepared.config)


def show_first_pair(tokens: TokenizedPairs, formatter: ChatFormatter) -> None:
    row = tokens.rows[0]
    console.print("\n[bold]training: the first pair, decoded from its tokens[/bold] (the loss uses only ⟦…⟧)")
    decode = partial(formatter.tokenizer.decode, clean_up_tokenization_spaces=False)
    example = Text(decode(row["prompt_ids"]), style="dim")
    for side, color in (("chosen", "green"), ("rejected", "red")):
        example.append(f"\n  {side:<9}", style="bold not dim")
        example.append(f"⟦{decode(row[side + '_ids'])}⟧", style=f"{color} not dim")
    console.print(example, soft_wrap=True)


def show_shared_pairs(train: TokenizedPairs, held_out: TokenizedPairs) -> None:
    """Warns about held-out pairs that are also training pairs: their metrics say nothing about new data."""
    training_rows = {json.dumps(row) for row in train.rows}
    shared = sum(json.dumps(row) in training_rows for row in held_out.rows)
    if shared:
        show_warning(
            f"warning: {shared} of {len(held_out.rows)} held-out pairs are also training pairs; name another "
            f"eval_dataset"
        )


def show_first_dialogue(tokens: TokenizedDialogues, formatter: ChatFormatter) -> None:
    row = tokens.rows[0]
    console.print("\n[bold]the first dialogue, decoded from its tokens[/bold] (the loss uses only ⟦…⟧)")
    example = Text(style="dim")
    labeled = zip(row["input_ids"], row["labels"], strict=True)
    for is_ignored, part in groupby(labeled, key=lambda token: token[1] == IGNORED_LABEL):
        ids = [token_id for token_id, _ in part]
        text = formatter.tokenizer.decode(ids, clean_up_tokenization_spaces=False)
        example.append(text if is_ignored else f"⟦{text}⟧", style=None if is_ignored else "green not dim")
    console.print(example, soft_wrap=True)


def show_dialogue_counts(name: str, tokens: TokenizedDialogues) -> None:
    """Prints how many dialogues were used, dropped and truncated, and warnings about their content."""
    console.print(
        f"{name}: dialogues read {tokens.read}, used {len(tokens.rows)}, dropped {tokens.dropped.total()}, truncated "
        f"{tokens.truncated}; replies in the loss {tokens.replies}"
    )
    show_dropped(tokens)
    if tokens.truncated:
        console.print("[yellow]replies beyond sft.max_length are not learned: raise it[/yellow]")
    if tokens.merged:
        console.print(
            f"[yellow]{tokens.merged} earlier replies are not learned: one token spans the end of their prompt and "
            f'their start; replies: "last" learns one reply a row[/yellow]'
        )
    show_missing_markers(tokens)
    show_special_tokens(tokens.special_tokens, "dialogues")


def show_steps(count: int, rows: str, config: Config) -> None:
    """Prints the number of optimizer steps of the run.

    Args:
        count: the number of training rows.
        rows: what they are.
    """
    batch_size = global_batch_size(config)
    epoch_steps = math.ceil(count / batch_size)
    total_steps = config.max_steps if config.max_steps > 0 else math.ceil(config.num_train_epochs * epoch_steps)
    if batch_size > count:
        show_warning(f"the batch size is {batch_size}, but there are only {count} {rows}: an epoch is one step")
    if config.warmup_steps > total_steps:
        show_warning(
            f"warmup_steps ({config.warmup_steps:g}) is more than the steps of the run: the learning rate "
            f"never reaches {config.learning_rate:g}"
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
        show_warning(
            "this does not fit into the free memory, so no step was tried: lower "
            "dpo.per_device_train_batch_size or dpo.max_length, or set dpo.gradient_checkpointing: true"
        )


def show_step_profile(profile: StepProfile) -> None:
    """Prints the expected time of the run and its peak memory, measured in a few real steps."""
    hours, minutes = divmod(round(profile.train_seconds / 60), 60)
    console.print(
        f"measured: {profile.step_seconds:.2f} s per step, so training takes about {hours} h {minutes} min without "
        f"evaluations; {profile.peak_memory_gb:.2f} GB for the longest batch",
        soft_wrap=True,
    )


def build_length_table(tokens: TokenizedRows) -> Table:
    table = Table(title="tokens", title_justify="left")
    for heading in LENGTH_COLUMNS:
        table.add_column(heading, justify="left" if heading == LENGTH_COLUMNS[0] else "right")
    for row in summarize_lengths(tokens.lengths()):
        table.add_row(*row)
    return table
