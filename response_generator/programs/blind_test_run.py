"""The scores of a blind test, from the raters' answers to the files."""

from collections.abc import Sequence
from pathlib import Path

from response_generator.blind_test import results
from response_generator.blind_test.answers import RaterAnswers
from response_generator.blind_test.scoring import score
from response_generator.blind_test.sheet import Sheet


def score_answers(sheet: Sheet, raters: Sequence[RaterAnswers], folder: Path) -> None:
    """Prints the scores and writes them into the folder."""
    scores = score(sheet, raters)
    results.show_scores(scores)
    results.write_scores(scores, folder)
    print(f"done: {folder / results.TEXT_FILE}; all figures are in {results.SCORES_FILE} beside it")
