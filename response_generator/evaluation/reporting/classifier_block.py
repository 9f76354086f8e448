"""The block of the report that says how good the emotion classifier is, on which its result depends."""

from response_generator.evaluation.comparison import GOLD, GOLD_TITLE, Comparison
from response_generator.evaluation.reporting.formats import format_interval, format_number
from response_generator.evaluation.reporting.table import STYLE
from response_generator.evaluation.statistics.estimates import Estimate
from response_generator.reporting.blocks import Paragraph, Section, Table
from response_generator.scoring.quality import ClassifierQuality

UNKNOWN = "–"
Column = dict[str, str]  # the cells of one set of texts, by the title of the row
OVERALL = "all texts"
MEAN_RECALL, MACRO_F1, CALIBRATION_ERROR = "mean recall", "F1, macro", "calibration error"


def build_classifier_section(comparison: Comparison, quality: ClassifierQuality | None) -> Section:
    """Recall and precision of each label, on each data set that the classifier was measured on and on the gold replies
    of this run."""
    noun = comparison.labels.noun
    columns = {}
    if quality:
        columns = {name: describe_data_set(quality, name) for name in quality.data_sets}
    columns |= {f"{GOLD_TITLE} of this run": describe_gold(comparison)}
    labels = dict.fromkeys((*comparison.labels.names, *(quality.labels if quality else ())))
    groups = {OVERALL: (MEAN_RECALL, MACRO_F1, CALIBRATION_ERROR), f"recall / precision, by {noun}": labels}
    rows = {
        group: [[title, *(cells.get(title, UNKNOWN) for cells in columns.values())] for title in titles]
        for group, titles in groups.items()
    }
    note = (
        f"How well the {noun} classifier finds the {noun} that people gave a text: in percent, with 95 % intervals in "
        f"brackets. By {noun}: share of the texts with that {noun} that it finds (recall), and share of its answers "
        "with it that are right (precision). The calibration error is how far its probabilities are from its accuracy, "
        "on average."
    )
    if not quality:
        note += " Nobody has written down how good it is on other texts: there is no quality.json beside its weights."
    table = Table(rows, ["", *columns], style=STYLE)
    return Section(f"The {noun} classifier", [Paragraph(note), table], "on phones")


def describe_data_set(quality: ClassifierQuality, name: str) -> Column:
    data = quality.data_sets[name]
    overall = {
        MEAN_RECALL: format_share(Estimate(*data.macro_recall)),
        MACRO_F1: format_share(Estimate(*data.macro_f1)),
        CALIBRATION_ERROR: format_number(data.calibration_error, in_percent=True),
    }
    by_label = {
        each.label: join_cells(
            Estimate(*each.recall) if each.recall else None,
            None if each.precision is None else Estimate(each.precision),
        )
        for each in quality.measure_labels(name)
    }
    return overall | by_label


def describe_gold(comparison: Comparison) -> Column:
    gold = comparison.estimates[GOLD]
    overall = {
        MEAN_RECALL: format_share(gold["emotion_recall_macro"]),
        MACRO_F1: format_share(gold["emotion_f1_macro"]),
    }
    by_label = {
        label: join_cells(gold.get(f"emotion/{label}/recall"), gold.get(f"emotion/{label}/precision"))
        for label in comparison.labels.names
    }
    return overall | by_label


def join_cells(recall: Estimate | None, precision: Estimate | None) -> str:
    """The recall with its interval, and the precision."""
    value = UNKNOWN if precision is None else format_number(precision.value, in_percent=True)
    return f"{UNKNOWN if recall is None else format_share(recall)} / {value}"


def format_share(estimate: Estimate) -> str:
    return f"{format_number(estimate.value, in_percent=True)} {format_interval(estimate, in_percent=True)}".strip()
