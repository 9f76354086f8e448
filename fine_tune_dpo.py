"""Aligns an adapter with DPO.

    python fine_tune_dpo.py --json_file args/dpo_arg.json

Reads preference pairs, trains a copy of the SFT adapter against a frozen one on the same 4-bit base, and leaves in
output_dir: adapter/ (what evaluate.py reads), report.html, metrics.json, log.jsonl, training.png, args.json,
environment.json.
"""

import signal
import sys

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C during the imports below ends without a traceback

from response_generator.cli import command_line, commits, preflight
from response_generator.config.training_schema import DPOArguments
from response_generator.data.datasets import count_skipped
from response_generator.data.reading import read_datasets
from response_generator.modeling import merge
from response_generator.modeling.backend import import_backend
from response_generator.runs import distributed, upload
from response_generator.runs.run_folder import RunFolder
from response_generator.training import checkpointing


def main() -> None:
    options = command_line.build_parser(DPOArguments, __doc__)[0].parse_args()
    args = command_line.read_arguments(DPOArguments, options)
    run = preflight.check_environment(args)
    if run.is_finished:
        show_finished(args, run)
        return
    (pairs, skipped), (held_out_pairs, skipped_held_out) = read_datasets(args.dataset, args.eval_dataset)

    import_backend(args.backend)  # unsloth has to be imported before transformers, trl and peft
    from response_generator.cli import data_preview, preview
    from response_generator.preferences.description import describe_pairs
    from response_generator.preferences.description_table import build_rows
    from response_generator.preferences.filters import count_filtered
    from response_generator.preferences.labels import filter_dataset
    from response_generator.runs.tracking import Tracker
    from response_generator.training.preparation import prepare

    counts = count_skipped("dataset", args.dataset, skipped)
    pairs, dropped = filter_dataset("dataset", pairs, args.dataset, args.scoring)
    counts |= count_filtered("dataset", dropped)
    if args.eval_dataset:
        counts |= count_skipped("eval_dataset", args.eval_dataset, skipped_held_out)
        held_out_pairs, dropped = filter_dataset("eval_dataset", held_out_pairs, args.eval_dataset, args.scoring)
        counts |= count_filtered("eval_dataset", dropped)
    prepared = prepare(args, pairs, held_out_pairs)
    checkpointing.check_run_identity(run, prepared.identify_run(run))
    description = build_rows(describe_pairs(pairs, []))
    preview.show_training(prepared, description)
    data_preview.show_skipped({"dataset": skipped, "eval_dataset": skipped_held_out})
    data_preview.show_filtered(counts)
    data_preview.show_limits({"dataset": args.dataset, "eval_dataset": args.eval_dataset})
    if options.dry_run:
        show_cost(args, prepared)
        return

    run.start()
    first_step = checkpointing.find_next_step(run.path)
    tracker = Tracker.start(args.wandb, run.path, run.arguments, first_step if args.tensorboard else None)
    metrics = train(args, run, prepared, tracker)
    metrics |= counts | prepared.train.dropped_metrics("dataset")
    if prepared.held_out:
        metrics |= prepared.held_out.dropped_metrics("eval_dataset")
    if distributed.is_main_process():
        from response_generator.training import report

        report.write_results("DPO", run, prepared, metrics, tracker, description)
        publish(args, run)


def show_finished(args: DPOArguments, run: RunFolder) -> None:
    lines = upload.describe_missing_upload(run.path, args.push_to_hub, "model")
    print(run.describe_finished("report.html and metrics.json"), *lines, sep="\n")
    if args.export and not merge.is_exported(args):
        print(f"it is not exported yet: {merge.describe_export_command(run.path)}")


def show_cost(args: DPOArguments, prepared) -> None:
    """Prints the expected memory, and where the base model is on this machine, the time and memory of a few steps."""
    from response_generator.cli import preview
    from response_generator.training import profiling

    memory = profiling.estimate_run_memory(args, prepared.config, prepared.start, prepared.train)
    preview.show_memory(memory)
    if profiling.is_base_model_cached(args) and profiling.fits_in_memory(memory):
        profile = profiling.profile_steps(args, prepared.tokenizer, prepared.start, prepared.train)
        preview.show_step_profile(profile)


def train(args: DPOArguments, run: RunFolder, prepared, tracker) -> dict[str, float]:
    """Trains, resuming where an earlier start was stopped, saves the adapter and returns the metrics."""
    from response_generator.modeling import base_model, loading
    from response_generator.training import (
        batch_layout,
        callbacks,
        dpo_health,
        health,
        progress_bar,
        reference,
        run_training,
        samples,
        sanity_checks,
        step_files,
        trainer_config,
        trainer_setup,
    )
    from response_generator.training.dpo_trainer import ResumableDPOTrainer

    policy = loading.load_policy(args, prepared.start)
    run.note_environment(base_model.describe_model(policy))
    run.note_commits(commits.find_adapter_and_dataset_commits(args))
    progress = progress_bar.ProgressBar(len(prepared.train.rows), "pairs", progress_bar.DPO_METRICS)
    trainer = trainer_setup.build_trainer(
        ResumableDPOTrainer,
        policy,
        prepared.tokenizer,
        prepared.config,
        prepared.train,
        prepared.held_out,
        callbacks=[
            callbacks.LogFile(run.path / step_files.LOG_FILE, tracker),
            progress,
            health.TrainingHealthCallback(dpo_health.find_dpo_warnings, run.path / step_files.WARNINGS_FILE),
            *trainer_config.build_early_stopping(args.dpo),
        ],
        run_identity=prepared.identify_run(run),
        save_total_limit=args.dpo.get("save_total_limit"),
    )
    if prepared.reference:
        reference.replace_reference(policy, prepared.reference)
    earlier = run.read_environment().get("batch_layout")
    run.note_environment({"batch_layout": batch_layout.choose_layout(trainer, args.dpo, earlier)})
    if args.dpo.get("precompute_ref_log_probs"):
        reference.precompute_ref_logps(trainer)
    sample_replies = samples.SampleReplies(
        trainer,
        prepared.sample_requests,
        args.samples,
        args.seed,
        run.path / step_files.SAMPLES_FILE,
        tracker,
        progress,
    )
    trainer.add_callback(sample_replies)
    metrics = sanity_checks.check_start(trainer, prepared.start, prepared.reference)
    metrics |= run_training.train(trainer)
    sample_replies.write_last(metrics.get("best_step", metrics["steps"]))
    sanity_checks.check_end(policy, prepared.start, prepared.reference)
    if distributed.is_main_process():
        run_training.save_adapter(policy, prepared.tokenizer, run.path / "adapter")
    return metrics


def publish(args: DPOArguments, run: RunFolder) -> None:
    if args.push_to_hub:
        upload.push_adapter(run.path, args.push_to_hub)
    if args.export:
        merge.merge_in_subprocess(args, run.path / "adapter")


def run() -> int:
    """The command `fine-tune-dpo` of an installation with pip."""
    return command_line.run_main(main)


if __name__ == "__main__":
    sys.exit(run())
