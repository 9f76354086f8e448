"""A description of preference pairs, from the pairs to the report. Imports no torch unless pairs have to be labeled."""

from pathlib import Path

from response_generator.cli import data_preview
from response_generator.config.preference_schema import DescriptionArguments
from response_generator.data.datasets import Pair, Skipped
from response_generator.preferences import description, description_table, report
from response_generator.preferences.labels import filter_dataset
from response_generator.runs import distributed
from response_generator.runs.run_folder import RunFolder, flatten
from response_generator.runs.short_names import build_page_title


def describe(args: DescriptionArguments, run: RunFolder, pairs: list[Pair], skipped: Skipped, dry_run: bool) -> None:
    """Counts and shows margins, scores, lengths, duplicates and target emotions.

    Args:
        skipped: the bad rows of `dataset` that `skip_bad_rows` leaves out.
        dry_run: print the description, and write nothing.
    """
    pairs, metrics = filter_dataset("dataset", pairs, skipped, args.dataset, args.scoring, args.label_set)
    description.check_scores(pairs)
    metrics |= description.describe_pairs(pairs, args.required_markers, args.label_set)
    rows = description_table.build_rows(metrics)
    description_table.show_description(rows)
    data_preview.show_skipped({"dataset": skipped})
    data_preview.show_limits({"dataset": args.dataset})
    if dry_run or not distributed.is_main_process():
        return
    run.start()
    title = build_page_title("Preference pairs", run.path, [f"data {Path(args.dataset.path).name}"])
    report.write_report(title, pairs, rows, [], flatten(run.arguments), args.label_set, run.path)
    run.write_json("metrics.json", metrics)
    print(f"done: open {run.path / 'report.html'}; metrics and pictures are beside it")
