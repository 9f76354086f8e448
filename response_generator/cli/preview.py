"""What a person sees before a run starts: one example with its loss mask, token lengths, and what was left out."""

import json
import math
from collections import Counter
from functools import partial

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text
from trl import DPOConfig

from response_generator.config.schema import DatasetArguments, EvaluateArguments
from response_generator.constants import EMOTIONS
from response_generator.data.chat_template import SAMPLE_HISTORY, ChatFormatter
from response_generator.data.datasets import Pair, Skipped
from response_generator.data.raw_rows import count_rows
from response_generator.data.tokenization import TEXT, TokenizedPairs, global_batch_size
from response_generator.evaluation.pipeline import PreparedEvaluation
from response_generator.training.device_memory import describe_memory
from response_generator.training.memory import MemoryEstimate, name_parts
from response_generator.training.preparation import PreparedTraining
from response_generator.training.profiling import StepProfile, fits_in_memory

console = Console(highlight=False)


def show_training(prepared: PreparedTraining, pairs: list[Pair]) -> None:
    """Prints the first pair, what was dropped or cut, and the number of steps."""
    formatter, train, held_out = prepared.formatter, prepared.train, prepared.held_out
    show_pairs("training", train, formatter)
    show_other_template(formatter)
    if held_out:
        show_counts("held out", held_out, formatter)
        show_shared_pairs(train, held_out)
    show_scores(pairs)
    for line in prepared.changed_settings:
        console.print(Text(line, style="yellow"), soft_wrap=True)
    show_steps(len(train.rows), prepared.config)


def show_pairs(name: str, tokens: TokenizedPairs, formatter: ChatFormatter) -> None:
    """Prints the first pair as the trainer will see it, then the account of all pairs."""
    row = tokens.rows[0]
    console.print(f"\n[bold]{name}: the first pair, decoded from its tokens[/bold] (the loss falls on ⟦…⟧ alone)")
    decode = partial(formatter.tokenizer.decode, clean_up_tokenization_spaces=False)
    example = Text(decode(row["prompt_ids"]), style="dim")
    for side, color in (("chosen", "green"), ("rejected", "red")):
        example.append(f"\n  {side:<9}", style="bold not dim")
        example.append(f"⟦{decode(row[side + '_ids'])}⟧", style=f"{color} not dim")
    console.print(example, soft_wrap=True)
    console.print(build_length_table(tokens))
    show_counts(name, tokens, formatter)


def show_counts(name: str, tokens: TokenizedPairs, formatter: ChatFormatter) -> None:
    """Prints what became of the pairs, and what is wrong with them."""
    console.print(
        f"{name}: pairs read {tokens.read}, used {len(tokens.rows)}, dropped {tokens.dropped.total()}, completions cut "
        f"{tokens.truncated}"
    )
    for reason, count in sorted(tokens.dropped.items()):
        console.print(f"[yellow]dropped {count}: {reason}[/yellow]")
    if tokens.truncated:
        console.print("[yellow]a cut completion has lost its EOS: raise max_length, or filter such pairs[/yellow]")
    if tokens.merged:
        console.print(
            f"[yellow]in {tokens.merged} pairs the prompt's last token merges with the reply's first[/yellow]"
        )
    if formatter.required_markers and not tokens.missing_markers:
        console.print(
            Text(f"the required markers {', '.join(map(repr, formatter.required_markers))} are in every prompt")
        )
    for marker, count in tokens.missing_markers.items():
        console.print(
            Text(f"the required marker {marker!r} is missing in {count} of {tokens.read} prompts", style="yellow")
        )
    show_special_tokens(tokens.special_tokens, "pairs")
    show_prompts_without_emotion(tokens, formatter)


def show_special_tokens(counts: Counter, rows: str) -> None:
    """Says how many rows hold special tokens in people's words."""
    for token, count in sorted(counts.items()):
        words = (
            f"warning: {token!r} stands in the words of {count} {rows}: the model takes it for the chat template's own"
        )
        console.print(Text(words, style="yellow"), soft_wrap=True)


def show_prompts_without_emotion(tokens: TokenizedPairs, formatter: ChatFormatter) -> None:
    """Says which pairs train on prompts that evaluation never asks, what it asks, and which rows avoid that."""
    for kind, count in tokens.prompts_without_emotion.items():
        if not count:
            continue
        what = (
            "plain text, which is used as it stands: no roles and no target emotion are added to it"
            if kind == TEXT
            else "messages without a target emotion: their content is text, not an object"
        )
        words = (
            f"warning: {count} of {tokens.read} pairs are {what}. In evaluation every prompt is written by the chat "
            f"template and asks for an emotion, for example {formatter.prompt(SAMPLE_HISTORY, EMOTIONS[1])!r}. Use "
            f'rows whose prompt, chosen and rejected are messages with the content {{"emotion": …, "dialog": …}}'
        )
        if kind == TEXT:
            words += "; or text that this template has written, decoded with its special tokens"
        console.print(Text(words, style="yellow"), soft_wrap=True)


def show_other_template(formatter: ChatFormatter) -> None:
    """Says when the adapter was trained with another template than the one of the args."""
    if formatter.other_template:
        words = (
            f"warning: the adapter brings another chat template than {formatter.file}: it was trained on other "
            f"prompts; set chat_template.file to the chat_template.jinja in its folder"
        )
        console.print(Text(words, style="yellow"), soft_wrap=True)


def show_shared_pairs(train: TokenizedPairs, held_out: TokenizedPairs) -> None:
    """Says how many held-out pairs are training pairs too: on those nothing is measured."""
    known = {json.dumps(row) for row in train.rows}
    shared = sum(json.dumps(row) in known for row in held_out.rows)
    if shared:
        words = f"warning: {shared} of {len(held_out.rows)} held-out pairs are trained on; name another eval_dataset"
        console.print(f"[yellow]{words}[/yellow]", soft_wrap=True)


def show_skipped(skipped: dict[str, Skipped]) -> None:
    """Prints how many rows of each data set were left out as bad ones, and why."""
    for key, reasons in skipped.items():
        for reason, count in sorted(reasons.items()):
            console.print(Text(f"{key}: skipped {count} bad row(s): {reason}", style="yellow"), soft_wrap=True)


def show_limits(datasets: dict[str, DatasetArguments | None]) -> None:
    """Prints which data sets are read in part only, and how many rows they have."""
    for key, dataset in datasets.items():
        if dataset is None or dataset.limit is None:
            continue
        there = count_rows(dataset)
        if there > dataset.limit:
            console.print(f"[yellow]{key}: {dataset.limit} of {there} rows ({key}.limit)[/yellow]")


def show_scores(pairs: list[Pair]) -> None:
    """Prints the margin of the data set's own scores, where it has them; training never sees them."""
    margins = [
        pair.chosen_score - pair.rejected_score
        for pair in pairs
        if pair.chosen_score is not None and pair.rejected_score is not None
    ]
    if margins:
        console.print(
            f"chosen_score - rejected_score: n {len(margins)}, median {np.median(margins):.3f}, "
            f"mean {np.mean(margins):.3f}, SD {np.std(margins):.3f}, not positive {sum(m <= 0 for m in margins)}"
        )


def show_evaluation(arguments: EvaluateArguments, prepared: PreparedEvaluation) -> None:
    """Prints the first prompt as the model will see it, the prompts' lengths, and how many replies are generated."""
    requests, formatter = prepared.requests, prepared.formatter
    lengths = [request.length for request in requests]
    console.print("\n[bold]the first prompt, special tokens written out[/bold]")
    console.print(Text(requests[0].prompt, style="dim"), soft_wrap=True)
    for marker in formatter.missing_markers(requests[0].prompt):
        console.print(
            Text(f"the required marker {marker!r} is missing: does chat_template.file fit this data?", style="yellow")
        )
    counts = Counter(token for request in requests for token in formatter.special_tokens_in(request.dialogue.history))
    show_special_tokens(counts, "dialogues")
    console.print(
        f"prompts {len(requests)}, tokens: median {np.median(lengths):.0f}, max {max(lengths)}; "
        f"{len(requests) * len(prepared.adapters) * arguments.samples_per_prompt} replies of up to "
        f"{prepared.generation_config.max_new_tokens} new tokens"
    )
    show_other_template(formatter)
    if prepared.held_out:
        show_counts("preferences", prepared.held_out, formatter)


def show_steps(pairs: int, config: DPOConfig) -> None:
    """Prints how many optimizer steps the run takes."""
    batch = global_batch_size(config)
    an_epoch = math.ceil(pairs / batch)
    total = config.max_steps if config.max_steps > 0 else math.ceil(config.num_train_epochs * an_epoch)
    if batch > pairs:
        console.print(
            f"[yellow]a step could take {batch} pairs, there are {pairs}: an epoch is one step of them[/yellow]"
        )
    if config.warmup_steps > total:
        console.print(
            f"[yellow]dpo.warmup_steps ({config.warmup_steps:g}) is more than these steps: the learning rate never "
            f"gets to {config.learning_rate:g}[/yellow]",
            soft_wrap=True,
        )
    console.print(f"batch {min(batch, pairs)}, {an_epoch} steps an epoch, {total} steps in all\n")


def show_memory(expected: MemoryEstimate) -> None:
    """Prints the estimate part by part, beside what the device has."""
    name, total = describe_memory()
    table = Table(title="memory in training, estimated (GB)", title_justify="left", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for part, size in name_parts(expected):
        table.add_row(part, f"{size / 1e9:.2f}")
    table.add_row("in all", f"{expected.total / 1e9:.2f}", style="bold")
    table.add_row(f"there are, on {name}", f"{total / 1e9:.2f}")
    console.print(table)
    if not fits_in_memory(expected):
        console.print(
            "[yellow]that does not fit now, so no step was tried: lower dpo.per_device_train_batch_size or "
            "dpo.max_length, or set dpo.gradient_checkpointing: true[/yellow]",
            soft_wrap=True,
        )


def show_step_profile(profile: StepProfile) -> None:
    """Prints what the run will take, from its first real steps."""
    hours, minutes = divmod(round(profile.train_seconds / 60), 60)
    console.print(
        f"measured: {profile.step_seconds:.2f} s a step, so training takes about {hours} h {minutes} min, without "
        f"evaluations; {profile.peak_memory_gb:.2f} GB for the longest batch",
        soft_wrap=True,
    )


def build_length_table(tokens: TokenizedPairs) -> Table:
    table = Table(title="tokens", title_justify="left")
    for heading in ("part", "min", "median", "p95", "max"):
        table.add_column(heading, justify="left" if heading == "part" else "right")
    for part, lengths in tokens.lengths().items():
        figures = (min(lengths), np.median(lengths), np.percentile(lengths, 95), max(lengths))
        table.add_row(part, *(f"{figure:.0f}" for figure in figures))
    return table
