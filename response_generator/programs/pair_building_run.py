"""A run that builds preference pairs, from its dialogues to the report."""

from response_generator.cli import commits, data_preview, prompt_preview
from response_generator.config.preference_schema import PreferenceDataArguments
from response_generator.data.datasets import Dialogue, Skipped
from response_generator.data.reading import count_skipped
from response_generator.preferences import with_server
from response_generator.preferences.building import build_pairs
from response_generator.preferences.preparation import prepare_building
from response_generator.preferences.results import write_results
from response_generator.preferences.windows import cut_windows
from response_generator.runs import batch_rows, distributed, upload
from response_generator.runs.run_folder import RunFolder
from response_generator.runs.tracking import Tracker


def build(
    args: PreferenceDataArguments,
    run: RunFolder,
    dialogues: list[Dialogue],
    skipped: Skipped,
    dry_run: bool,
    more_follows: bool = False,
) -> None:
    """Samples several replies to every prompt, classifies them, and pairs the best with the worst.

    Args:
        skipped: the bad rows of `dataset` that `skip_bad_rows` leaves out.
        dry_run: show the prompts, and write nothing.
        more_follows: the processes stay connected, because they go on with another program.
    """
    prompts, too_short = cut_windows(dialogues, args)
    skipped = skipped + too_short
    prepared = prepare_building(args, prompts)
    data_preview.show_models(args)
    prompt_preview.show_building(args, prepared)
    data_preview.show_skipped({"dataset": skipped})
    data_preview.show_limits({"dataset": args.dataset})
    facts = None
    if args.server and (dry_run or not run.has_results):  # later it may have ended, with all replies in the run folder
        facts = with_server.check_server(args, prepared, generate=not dry_run)
    if dry_run:
        return

    run.start()
    tracker = Tracker.start(args.wandb, run.path, run.arguments)
    outcomes = build_pairs(args, run, prepared, facts)
    run.note_commits(commits.find_adapter_and_dataset_commits(args) | commits.find_classifier_commits(args.scoring))
    if not more_follows:
        batch_rows.shutdown_distributed()
    if not distributed.is_main_process():
        return
    write_results(args, run, outcomes, count_skipped("dataset", args.dataset, skipped), tracker)
    if args.push_to_hub:
        upload.push_dataset(run.path, args.push_to_hub)
