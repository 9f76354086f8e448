"""Output before SFT starts: one dialogue with its loss mask, token lengths, left out rows and warnings."""

from itertools import groupby
from typing import TYPE_CHECKING

from rich.text import Text

from response_generator.cli.data_preview import console
from response_generator.cli.preview import (
    build_length_table,
    show_dropped,
    show_missing_markers,
    show_special_tokens,
    show_steps,
    show_template_warnings,
)
from response_generator.data.dialogue_tokenization import IGNORED_LABEL, TokenizedDialogues

if TYPE_CHECKING:  # a script imports its own programs alone
    from response_generator.training.sft_preparation import PreparedSFT


def show_training(prepared: "PreparedSFT") -> None:
    """Prints the first dialogue, counts of dropped and truncated dialogues, warnings and the number of steps."""
    show_first_dialogue(prepared)
    console.print(build_length_table(prepared.train))
    show_counts("training", prepared.train)
    show_template_warnings(prepared.formatter)
    if prepared.held_out:
        show_counts("held out", prepared.held_out)
    for line in prepared.changed_settings:
        console.print(Text(line, style="yellow"), soft_wrap=True)
    show_steps(len(prepared.train.rows), "dialogues", prepared.config)


def show_first_dialogue(prepared: "PreparedSFT") -> None:
    row = prepared.train.rows[0]
    console.print("\n[bold]the first dialogue, decoded from its tokens[/bold] (the loss uses only ⟦…⟧)")
    example = Text(style="dim")
    tokens = zip(row["input_ids"], row["labels"], strict=True)
    for is_ignored, part in groupby(tokens, key=lambda token: token[1] == IGNORED_LABEL):
        ids = [token_id for token_id, _ in part]
        text = prepared.tokenizer.decode(ids, clean_up_tokenization_spaces=False)
        example.append(text if is_ignored else f"⟦{text}⟧", style=None if is_ignored else "green not dim")
    console.print(example, soft_wrap=True)


def show_counts(name: str, tokens: TokenizedDialogues) -> None:
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
