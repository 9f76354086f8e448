"""A blind test by people: which emotion do the replies of two models have, and which reply fits better?

    python -m response_generator.blind_test RUN [--pairs N] [--models A B] [--seed N] [--output_dir FOLDER]
    python -m response_generator.blind_test RUN --score FILE [FILE ...] [--output_dir FOLDER]

RUN is the finished run folder of evaluate.py with a baseline; or name two runs on the same prompts, whose adapters are
then compared. The first command writes one page for the raters, blind_test.html, and key.json, which stays with you.
The second reads the answers that they have saved, and leaves scores.json and scores.md in the same folder.
"""

import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter

from response_generator.blind_test import sheet_files
from response_generator.blind_test.answers import read_answers
from response_generator.blind_test.compared_replies import read_replies
from response_generator.blind_test.sheet import Sheet, draw_sheet
from response_generator.cli import command_line

DEFAULT_PAIRS, DEFAULT_SEED = 50, 42


def main() -> None:
    options = read_options()
    if options.score:
        sheet = sheet_files.read_sheet(options.output_dir, options.runs)
        raters = read_answers(options.score, sheet)

        from response_generator.programs import blind_test_run  # scikit-learn takes a second

        blind_test_run.score_answers(sheet, raters, options.output_dir)
        return
    sheet = draw_sheet(read_replies(options.runs, options.models), options.pairs, options.seed)
    sheet_files.write_sheet(sheet, options.output_dir)
    describe(sheet, options)


def describe(sheet: Sheet, options: Namespace) -> None:
    replies, folder = sheet.replies, options.output_dir
    prompts, differing = replies.count_prompts(), len(replies.list_differing_prompts())
    print(f"sheet {sheet.id}: {len(sheet.pairs)} pairs of {' and '.join(replies.models)}, from {prompts} prompts")
    if differing < prompts:
        print(f"{prompts - differing} prompts are left out: both models reply the same to them")
    if len(sheet.pairs) < options.pairs:
        print(f"--pairs {options.pairs}: there are only {len(sheet.pairs)}, one for each prompt with different replies")
    if targets := sheet.count_targets():
        print("targets: " + ", ".join(f"{label} {targets[label]}" for label in replies.labels.names))
    print(
        f"done: send {folder / sheet_files.PAGE_FILE} to the raters, and keep {sheet_files.KEY_FILE} from them; then "
        f"--score their answers"
    )


def read_options() -> Namespace:
    parser = ArgumentParser(
        "python -m response_generator.blind_test", description=__doc__, formatter_class=RawDescriptionHelpFormatter
    )
    path = command_line.parse_path
    parser.add_argument("runs", type=path, nargs="+", metavar="RUN", help="finished run folder of evaluate.py")
    parser.add_argument("--pairs", type=int, metavar="N", help=f"pairs of replies on the page ({DEFAULT_PAIRS})")
    parser.add_argument("--models", nargs=2, metavar=("A", "B"), help="whose replies are compared (the first two)")
    parser.add_argument("--seed", type=int, metavar="N", help=f"of what is drawn at random ({DEFAULT_SEED})")
    parser.add_argument("--output_dir", type=path, metavar="FOLDER", help="of page, key and scores (RUN/blind_test)")
    parser.add_argument("--score", type=path, nargs="+", metavar="FILE", help="answers that raters have saved")
    options = parser.parse_args()
    if options.score and (options.pairs, options.models, options.seed) != (None, None, None):
        parser.error("--pairs, --models and --seed are those of the sheet; --score takes them from its key.json")
    options.pairs = DEFAULT_PAIRS if options.pairs is None else options.pairs
    options.seed = DEFAULT_SEED if options.seed is None else options.seed
    if options.pairs < 1:
        parser.error(f"--pairs {options.pairs}: allowed: numbers from 1")
    if options.seed < 0:
        parser.error(f"--seed {options.seed}: allowed: numbers from 0")
    options.output_dir = options.output_dir or options.runs[0] / "blind_test"
    return options


if __name__ == "__main__":
    sys.exit(command_line.run_main(main))
