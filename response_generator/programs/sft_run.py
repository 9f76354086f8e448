"""A run of SFT, from its dialogues to the trained adapter and its report."""

from response_generator.cli import data_preview, training_preview
from response_generator.config.training_schema import SFTArguments
from response_generator.data.datasets import Dialogue, Skipped
from response_generator.data.reading import count_skipped
from response_generator.modeling import loading
from response_generator.programs import training_run
from response_generator.runs import distributed, upload
from response_generator.runs.run_folder import RunFolder
from response_generator.training import adapter_checks, run_training, sft_checks
from response_generator.training.checkpoints import checkpointing
from response_generator.training.monitoring import report
from response_generator.training.preparation import prepare_sft
from response_generator.training.training_method import SFT


def fine_tune(args: SFTArguments, run: RunFolder, rows: list[tuple[list[Dialogue], Skipped]], dry_run: bool) -> None:
    """Trains a LoRA to write the assistant's replies.

    Args:
        rows: of `dataset` and of `eval_dataset`, as `read_datasets` returns them.
        dry_run: show the data, and write nothing.
    """
    (dialogues, skipped), (held_out, skipped_held_out) = rows
    prepared = prepare_sft(args, dialogues, held_out)
    checkpointing.check_run_identity(run, prepared.identify_run(run))
    data_preview.show_models(args)
    training_preview.show_dialogues(prepared)
    data_preview.show_skipped({"dataset": skipped, "eval_dataset": skipped_held_out})
    data_preview.show_limits({"dataset": args.dataset, "eval_dataset": args.eval_dataset})
    if dry_run:
        return

    tracker = training_run.start_run(args, run)
    policy = loading.load_policy(args, prepared.start, vocabulary_size=len(prepared.tokenizer))
    trainer, sample_replies = training_run.build_trainer(args, run, prepared, policy, tracker)
    metrics = sft_checks.check_start(trainer)
    metrics |= run_training.train(trainer, SFT.unit)
    sample_replies.write_last(metrics.get("best_step", metrics["steps"]))
    adapter_checks.check_changed(policy, prepared.start)
    metrics |= count_skipped("dataset", args.dataset, skipped) | prepared.train.dropped_metrics("dataset")
    if prepared.held_out:
        metrics |= count_skipped("eval_dataset", args.eval_dataset, skipped_held_out)
        metrics |= prepared.held_out.dropped_metrics("eval_dataset")
    if distributed.is_main_process():
        run_training.save_adapter(policy, prepared.tokenizer, run.path / "adapter")
        report.write_results(run, prepared, metrics, tracker)
        if args.push_to_hub:
            upload.push_adapter(run.path, args.push_to_hub)
