"""Trains the SFT adapter that DPO starts from.

    python -m response_generator.sft --json_file args/sft_arg.json

Reads dialogues, trains a LoRA on a 4-bit base to write the assistant's replies, each with its emotion in the prompt,
and leaves in output_dir: adapter/ (what fine_tune_dpo.py reads), report.html, metrics.json, log.jsonl, training.png,
args.json, environment.json.
"""

import signal
import sys

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C during the imports below ends without a traceback

from response_generator.cli import command_line, commits, data_preview, preflight
from response_generator.config.training_schema import SFTArguments
from response_generator.data.datasets import count_skipped
from response_generator.data.reading import read_datasets
from response_generator.modeling.backend import import_backend
from response_generator.runs import distributed, upload
from response_generator.runs.run_folder import RunFolder
from response_generator.training import checkpointing


def main() -> None:
    options = command_line.build_parser(SFTArguments, __doc__)[0].parse_args()
    args = command_line.read_arguments(SFTArguments, options)
    run = preflight.check_environment(args)
    if run.is_finished:
        lines = upload.describe_missing_upload(run.path, args.push_to_hub, "model")
        print(run.describe_finished("report.html and metrics.json"), *lines, sep="\n")
        return
    (dialogues, skipped), (held_out, skipped_held_out) = read_datasets(args.dataset, args.eval_dataset)

    import_backend(args.backend)  # unsloth has to be imported before transformers, trl and peft
    from response_generator.cli import sft_preview
    from response_generator.runs.tracking import Tracker
    from response_generator.training.sft_preparation import prepare

    prepared = prepare(args, dialogues, held_out)
    checkpointing.check_run_identity(run, prepared.identify_run(run))
    sft_preview.show_training(prepared)
    data_preview.show_skipped({"dataset": skipped, "eval_dataset": skipped_held_out})
    data_preview.show_limits({"dataset": args.dataset, "eval_dataset": args.eval_dataset})
    if options.dry_run:
        return

    run.start()
    first_step = checkpointing.find_next_step(run.path)
    tracker = Tracker.start(args.wandb, run.path, run.arguments, first_step if args.tensorboard else None)
    metrics = train(args, run, prepared, tracker)
    metrics |= count_skipped("dataset", args.dataset, skipped) | prepared.train.dropped_metrics("dataset")
    if prepared.held_out:
        metrics |= count_skipped("eval_dataset", args.eval_dataset, skipped_held_out)
        metrics |= prepared.held_out.dropped_metrics("eval_dataset")
    if distributed.is_main_process():
        from response_generator.training import report

        report.write_results("SFT", run, prepared, metrics, tracker)
        if args.push_to_hub:
            upload.push_adapter(run.path, args.push_to_hub)


def train(args: SFTArguments, run: RunFolder, prepared, tracker) -> dict[str, float]:
    """Trains, resuming where an earlier start was stopped, saves the adapter and returns the metrics."""
    from response_generator.modeling import base_model, loading
    from response_generator.training import (
        callbacks,
        health,
        progress_bar,
        run_training,
        samples,
        sanity_checks,
        sft_checks,
        sft_health,
        step_files,
        trainer_config,
        trainer_setup,
    )
    from response_generator.training.sft_trainer import ResumableSFTTrainer

    policy = loading.load_policy(args, prepared.start, vocabulary_size=len(prepared.tokenizer))
    run.note_environment(base_model.describe_model(policy))
    run.note_commits(commits.find_adapter_and_dataset_commits(args))
    progress = progress_bar.ProgressBar(len(prepared.train.rows), "dialogues", progress_bar.SFT_METRICS)
    trainer = trainer_setup.build_trainer(
        ResumableSFTTrainer,
        policy,
        prepared.tokenizer,
        prepared.config,
        prepared.train,
        prepared.held_out,
        callbacks=[
            callbacks.LogFile(run.path / step_files.LOG_FILE, tracker),
            progress,
            health.TrainingHealthCallback(sft_health.find_sft_warnings, run.path / step_files.WARNINGS_FILE),
            *trainer_config.build_early_stopping(args.sft),
        ],
        run_identity=prepared.identify_run(run),
        save_total_limit=args.sft.get("save_total_limit"),
    )
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
    metrics = sft_checks.check_start(trainer)
    metrics |= run_training.train(trainer, "dialogues")
    sample_replies.write_last(metrics.get("best_step", metrics["steps"]))
    sanity_checks.check_changed(policy, prepared.start)
    if distributed.is_main_process():
        run_training.save_adapter(policy, prepared.tokenizer, run.path / "adapter")
    return metrics


if __name__ == "__main__":
    sys.exit(command_line.run_main(main))
