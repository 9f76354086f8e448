"""Output before a run starts, of all programs that tokenize pairs or dialogues: counts of rows, and warnings."""

from collections import Counter

from rich.text import Text

from response_generator.cli.data_preview import console, show_warning
from response_generator.data.chat_template import ChatFormatter
from response_generator.data.pair_tokenization import TEXT, TokenizedPairs, TokenizedRows


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
    if tokens.shared_starts:
        console.print(
            f"{tokens.shared_starts} pairs have no prompt of their own: it is what chosen and rejected begin with"
        )
    show_special_tokens(tokens.special_tokens, "pairs")
    show_unlike_evaluation(tokens, formatter)


def show_dropped(tokens: TokenizedRows) -> None:
    for reason, count in sorted(tokens.dropped.items()):
        console.print(f"[yellow]dropped {count}: {reason}[/yellow]")


def show_missing_markers(tokens: TokenizedRows) -> None:
    for marker, count in tokens.missing_markers.items():
        console.print(
            Text(f"the required marker {marker!r} is missing in {count} of {tokens.read} prompts", style="yellow")
        )


def show_special_tokens(counts: Counter, rows: str) -> None:
    """Warns about special tokens in the text of messages."""
    for token, count in sorted(counts.items()):
        show_warning(
            f"warning: the text of {count} {rows} contains the special token {token!r}; the model cannot tell it from "
            f"those of the chat template"
        )


def show_unlike_evaluation(tokens: TokenizedPairs, formatter: ChatFormatter) -> None:
    """Warns about prompts that do not end as all prompts of an evaluation: with the start of a reply and, where there
    are labels, a target emotion."""
    labels = formatter.labels
    for form, count in tokens.unlike_evaluation.items():
        if not count:
            continue
        reason = (
            f"plain text, which is used unchanged: no roles {'and no target emotion ' if labels else ''}are added to it"
            if form == TEXT
            else "messages without a target emotion: their chosen reply has none"
        )
        content = ' with the content {"emotion": …, "dialog": …}' if labels else ""
        message = (
            f"warning: {count} of {tokens.read} pairs are {reason}. In evaluation the chat template renders every "
            f"prompt{' with a target emotion' if labels else ''}, for example {formatter.sample_prompts[:2][-1]!r}. "
            f"Use rows whose prompt, chosen and rejected are messages{content}"
        )
        if form == TEXT:
            message += ", or text rendered with this template, including its special tokens"
        show_warning(message)


def show_template_warnings(formatter: ChatFormatter) -> None:
    """Warns when the adapter was trained with another template than the one in the args, and when the template writes
    special tokens that the tokenizer does not have."""
    for marker, count in formatter.split_markers.items():
        show_warning(
            f"warning: {marker!r} of the chat template is no special token of this tokenizer: it becomes {count} "
            f"ordinary tokens"
        )
    if formatter.other_template:
        show_warning(
            f"warning: the adapter was saved with another chat template than {formatter.file}, so it was trained on "
            f"other prompts; set chat_template.file to the chat_template.jinja in the folder of the adapter"
        )
