"""What a person sees before a run starts: one example with its loss mask, token lengths, and what was left out."""

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from response_generator.chat_template import Renderer
from response_generator.pairs import PairTokens

console = Console(highlight=False)


def show_pairs(name: str, tokens: PairTokens, renderer: Renderer) -> None:
    """Prints the first pair as the trainer will see it, then the account of all pairs."""
    row = tokens.rows[0]
    console.print(f"\n[bold]{name}: the first pair, decoded from its tokens[/bold] (the loss falls on ⟦…⟧ alone)")
    decode = renderer.tokenizer.decode
    example = Text(decode(row["prompt_ids"]), style="dim")
    for side, colour in (("chosen", "green"), ("rejected", "red")):
        example.append(f"\n  {side:<9}", style="bold not dim")
        example.append(f"⟦{decode(row[side + '_ids'])}⟧", style=f"{colour} not dim")
    console.print(example, soft_wrap=True)
    console.print(lengths_table(tokens))
    console.print(
        f"pairs read {tokens.read}, used {len(tokens.rows)}, dropped (prompt too long) {tokens.dropped}, "
        f"completions cut {tokens.truncated}"
    )
    if tokens.truncated:
        console.print("[yellow]a cut completion has lost its EOS: raise dpo.max_length, or filter such pairs[/yellow]")
    if tokens.merged:
        console.print(f"[yellow]in {tokens.merged} pairs the prompt's last token merges with the reply's first[/yellow]")
    for mark, count in tokens.missing_marks.items():
        console.print(
            f"[yellow]the mark {mark!r} is missing in {count} of {tokens.read} prompts: was the data decoded without "
            f"special tokens? Evaluation will show the model prompts that hold it[/yellow]",
            markup=True,
        )


def lengths_table(tokens: PairTokens) -> Table:
    table = Table(title="tokens", title_justify="left")
    for heading in ("part", "min", "median", "p95", "max"):
        table.add_column(heading, justify="left" if heading == "part" else "right")
    for part, lengths in tokens.lengths().items():
        figures = (min(lengths), np.median(lengths), np.percentile(lengths, 95), max(lengths))
        table.add_row(part, *(f"{figure:.0f}" for figure in figures))
    return table
