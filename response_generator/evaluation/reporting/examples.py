"""Some replies of two models side by side, for the terminal."""

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from response_generator.constants import ADAPTER, BASELINE
from response_generator.data.pair_text import get_reply_text
from response_generator.evaluation.comparison import Comparison
from response_generator.evaluation.predictions_file import Prediction, group_by_run, has_gold_target
from response_generator.runs.terminal import open_console, to_one_line

MAX_EXAMPLES = 3


def show_examples(comparison: Comparison) -> None:
    """Prints the first prompts whose replies differ between the two models, or between baseline and adapter of more
    models; nothing where there are no such two."""
    models = comparison.models
    if len(models) != 2:
        models = [model for model in (BASELINE, ADAPTER) if model in models]
    if len(models) != 2:
        return
    pairs = list_pairs(comparison, models)
    different = [(one, other) for one, other in pairs if one["response"] != other["response"]]
    console = open_console()
    if not different:
        console.print("both models gave the same reply to every prompt")
        return
    shown = different[:MAX_EXAMPLES]
    title = f"the first {len(shown)} of {len(different)} prompts whose replies differ"
    title += ", with the classifier's label" if comparison.has_emotions else ""
    table = Table(title=Text(title), title_justify="left", show_lines=True)
    for heading in ("last turn of the prompt", *models):
        table.add_column(Text(heading), ratio=1)
    for one, other in shown:
        last_turn = get_reply_text(one["history"][-1]["content"])
        table.add_row(
            describe_text(last_turn, "target", one.get("target_emotion")),
            *(describe_text(row["response"], "label", row.get("predicted_emotion")) for row in (one, other)),
        )
    console.print(table)


def list_pairs(comparison: Comparison, models: Sequence[str]) -> list[tuple[Prediction, Prediction]]:
    """Both models' first replies to each prompt, to the target of its gold reply, in the order of the data. Of a recipe
    that was trained several times, the replies of the first run."""
    one, other = (
        [row for row in group_by_run(comparison.rows[model])[0] if not row["sample"] and has_gold_target(row)]
        for model in models
    )
    return list(zip(one, other, strict=True))


def describe_text(text: str, title: str, label: str | None) -> Text:
    """The text in one paragraph, and below it the label, if there is one."""
    line = to_one_line(text)
    return Text(line) if label is None else Text.assemble(line, "\n", (f"{title}: {label}", "bold"))
