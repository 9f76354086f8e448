"""A run of DPO, from its pairs to the trained adapter and its report."""

from response_generator.cli import data_preview, training_preview
from response_generator.config.training_schema import DPOArguments
from response_generator.data.datasets import Pair, Skipped
from response_generator.modeling import loading, merge
from response_generator.preferences.description import describe_pairs
from response_generator.preferences.description_table import build_rows
from response_generator.preferences.labels import filter_dataset
from response_generator.programs import training_run
from response_generator.runs import distributed, upload
from response_generator.runs.run_folder import RunFolder
from response_generator.training import dpo_checks, reference, run_training
from response_generator.training.checkpoints import checkpointing
from response_generator.training.cost import profiling
from response_generator.training.layout import batch_layout
from response_generator.training.monitoring import report
from response_generator.training.preparation import PreparedTraining, prepare_dpo
from response_generator.training.training_method import DPO


def align(args: DPOArguments, run: RunFolder, rows: list[tuple[list[Pair], Skipped]], dry_run: bool) -> None:
    """Trains a copy of the adapter on preference pairs, against a frozen one.

    Args:
        rows: of `dataset` and of `eval_dataset`, as `read_datasets` returns them.
        dry_run: show the data and what the run will cost, and write nothing.
    """
    (pairs, skipped), (held_out, skipped_held_out) = rows
    pairs, counts = filter_dataset("dataset", pairs, skipped, args.dataset, args.scoring, args.label_set)
    held_out, held_out_counts = filter_dataset(
        "eval_dataset", held_out, skipped_held_out, args.eval_dataset, args.scoring, args.label_set
    )
    counts |= held_out_counts
    prepared = prepare_dpo(args, pairs, held_out)
    checkpointing.check_run_identity(run, prepared.identify_run(run))
    description = build_rows(describe_pairs(pairs, [], args.label_set))
    data_preview.show_models(args)
    training_preview.show_pairs(prepared, description)
    data_preview.show_skipped({"dataset": skipped, "eval_dataset": skipped_held_out})
    data_preview.show_filtered(counts)
    data_preview.show_limits({"dataset": args.dataset, "eval_dataset": args.eval_dataset})
    if dry_run:
        show_cost(args, prepared)
        return

    tracker = training_run.start_run(args, run)
    policy = loading.load_policy(args, prepared.start)
    # TRL adds the reference: a frozen copy of the adapter.
    trainer, sample_replies = training_run.build_trainer(args, run, prepared, policy, tracker)
    if prepared.reference:
        reference.load_reference_adapter(policy, prepared.reference)
    earlier = run.read_environment().get("batch_layout")
    run.note_environment({"batch_layout": batch_layout.choose_layout(trainer, args.dpo, earlier)})
    if args.dpo.get("precompute_ref_log_probs"):
        reference.precompute_ref_logps(trainer)
    metrics = dpo_checks.check_start(trainer, prepared.start, prepared.reference)
    metrics |= run_training.train(trainer, DPO.unit)
    sample_replies.write_last(metrics.get("best_step", metrics["steps"]))
    dpo_checks.check_end(policy, prepared.start, prepared.reference)
    metrics |= counts | prepared.train.dropped_metrics("dataset")
    if prepared.held_out:
        metrics |= prepared.held_out.dropped_metrics("eval_dataset")
    if distributed.is_main_process():
        run_training.save_adapter(policy, prepared.tokenizer, run.path / "adapter")
        report.write_results(run, prepared, metrics, tracker, description)
        if args.push_to_hub:
            upload.push_adapter(run.path, args.push_to_hub)
        if args.export:
            merge.merge_in_subprocess(args, run.path / "adapter")


def show_cost(args: DPOArguments, prepared: PreparedTraining) -> None:
    """Prints the expected memory, and where the base model is on this machine, the time and memory of a few steps."""
    memory = profiling.estimate_run_memory(args, prepared.config, prepared.start, prepared.train)
    training_preview.show_memory(memory)
    if profiling.is_base_model_cached(args) and profiling.fits_in_memory(memory):
        profile = profiling.profile_steps(args, prepared.tokenizer, prepared.start, prepared.train)
        training_preview.show_step_profile(profile)
