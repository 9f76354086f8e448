"""The arguments of the sections that name a data set, in the same form as those in schema.py."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from response_generator.config.library.key_rule import MAX_COUNT, MAX_NUMBER, MAX_WORKERS
from response_generator.config.section import Section, SourceName
from response_generator.config.sources import SourceKind

PairColumn = Literal[
    "prompt",
    "chosen",
    "rejected",
    "chosen_score",
    "rejected_score",
    "chosen_emotion",
    "chosen_gibberish_label",
    "chosen_gibberish_score",
]


def check_split(name: str) -> str:
    if "/" in name or not name.strip():
        raise ValueError("a split is a name, such as train")
    return name


class DatasetArguments(Section):
    """A data set of dialogues."""

    path: Annotated[SourceName, SourceKind.DATASET]
    """Hub id (`owner/name` or `owner/name@revision`), a local .json, .jsonl or .parquet file, a folder of such files
    named after their split, or a folder written by `save_to_disk`."""
    name: str | None = Field(default=None, min_length=1)
    """Configuration name of a hub data set."""
    split: Annotated[str, AfterValidator(check_split)] = "train"
    """Split to read. It is ignored for a single local file."""
    revision: str | None = Field(default=None, min_length=1)
    """Branch, tag or commit of a hub data set. `@revision` in `path` does the same."""
    num_proc: int | None = Field(default=None, ge=1, le=MAX_WORKERS)
    """Number of processes that load a hub data set."""
    offset: int = Field(default=0, ge=0, le=MAX_COUNT)
    """Leave out this many rows at the start."""
    limit: int | None = Field(default=None, ge=1)
    """Read only this many rows, from `offset` on; null: all."""
    skip_bad_rows: bool = False
    """true: leave out rows that cannot be used, and count them. false: stop with an error that lists them."""
    columns: dict[Literal["prompt", "messages", "completion"], str] = {}
    """The data's names of columns that have another name here: `{"prompt": "conversation"}`. `completion` is the last
    reply where the dialogue does not have it: `{"completion": "chosen"}` reads preference pairs."""


class LabeledDatasetArguments(DatasetArguments):
    """A data set of texts with labels: dialogues, whose turns have them, or rows with `text` and `emotion`."""

    columns: dict[Literal["prompt", "messages", "text", "emotion"], str] = {}
    """The data's names of columns that have another name here: `{"text": "utterance", "emotion": "label"}`."""


class WeightedDatasetArguments(LabeledDatasetArguments):
    weight: float = Field(default=1.0, gt=0, le=MAX_NUMBER)
    """Factor of the loss of each of its texts, relative to those of the other data sets."""


class EvaluationDatasetArguments(DatasetArguments):
    """A data set of dialogues whose replies are evaluated."""

    target_emotions: Literal["gold", "all"] = "gold"
    """`gold`: a dialogue is asked for the label of its gold reply; `all`: it is asked for each of the labels, so that
    it has one reply, or `samples_per_prompt` replies, for each."""


class FilterArguments(Section):
    """Filters of preference pairs, in the order in which they are applied."""

    min_margin: float | None = Field(default=None, ge=-MAX_NUMBER, le=MAX_NUMBER)
    """Least `chosen_score - rejected_score`; null: any."""
    min_chosen_score: float | None = Field(default=None, ge=-MAX_NUMBER, le=MAX_NUMBER)
    """Least `chosen_score`; null: any."""
    max_rejected_score: float | None = Field(default=None, ge=-MAX_NUMBER, le=MAX_NUMBER)
    """Greatest `rejected_score`; null: any."""
    min_characters: int | None = Field(default=None, ge=1, le=MAX_COUNT)
    """Least length of either reply; null: any."""
    max_characters: int | None = Field(default=None, ge=1, le=MAX_COUNT)
    """Greatest length of either reply; null: any."""
    max_length_difference: int | None = Field(default=None, ge=0, le=MAX_COUNT)
    """Greatest number of words by which one reply may be longer than the other, so that the pairs do not teach a
    length; null: any."""
    equal_naming: bool = False
    """Keep only pairs whose replies both have a word that names their target emotion, such as "happy", or both have
    none, so that the pairs do not teach to name it. For the seven emotions."""
    chosen_ends_with_punctuation: bool = False
    """Keep only pairs whose chosen reply ends with an end mark of English or Chinese, that is, is not cut off."""
    chosen_has_target_emotion: bool = False
    """Keep only pairs whose chosen reply has the target emotion according to the emotion classifier."""
    chosen_gibberish_labels: list[str] | None = None
    """Keep only pairs whose chosen reply has one of these labels of the gibberish classifier; null: any."""
    min_chosen_gibberish_score: float | None = Field(default=None, ge=0, le=1)
    """Least probability of that label; null: any."""
    drop_duplicates: Literal["exact", "near"] | None = None
    """`exact`: keep the first of pairs with the same prompt and replies; `near`: also of pairs whose prompt, chosen and
    rejected reply each share 80 % of their sequences of three words; null: keep all."""
    max_pairs_per_prompt: int | None = Field(default=None, ge=1, le=MAX_COUNT)
    """Keep only this many pairs of a prompt, those with the greatest margin; null: all."""


class PairDatasetArguments(DatasetArguments):
    """A data set of preference pairs."""

    columns: dict[PairColumn, str] = {}
    """The data's names of columns that have another name here: `{"prompt": "question", "chosen": "good"}`."""


class FilteredPairDatasetArguments(PairDatasetArguments):
    filters: FilterArguments = FilterArguments()
    """Filters of the pairs."""
