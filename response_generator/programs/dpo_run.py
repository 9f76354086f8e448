"""A run of DPO, from its pairs to the trained adapter and its report."""

from response_generator.cli import data_preview, training_preview
from response_generator.config.training_schema import DPOArguments
from response_generator.data.datasets import Pair, Skipped, count_skipped
from response_generator.modeling import loading, merge
from response_generator.preferences.description import describe_pairs
from response_generator.preferences.description_table import build_rows
from response_generator.preferences.filters import count_filtered
from response_generator.preferences.labels import filter_dataset
from response_generator.programs import training_run
from response_generator.runs import distributed
from response_generator.runs.run_folder import RunFolder
from response_generator.training import batch_layout, checkpointing, profiling, reference, run_training, sanity_checks
from response_generator.training.preparation import PreparedTraining, prepare_dpo

Read = tuple[list[Pair], Skipped]


def align(args: DPOArguments, run: RunFolder, read: Read, read_held_out: Read, dry_run: bool) -> None:
    """Trains a copy of the adapter on preference pairs, against a frozen one.

    Args:
        read: the pairs of `dataset`, and how many bad rows were left out.
        read_held_out: the same of `eval_dataset`; none without it.
        dry_run: show the data and what the run will cost, and write nothing.
    """
    pairs, held_out_pairs, counts = filter_pairs(args, read, read_held_out)
    prepared = prepare_dpo(args, pairs, held_out_pairs)
    checkpointing.check_run_identity(run, prepared.identify_run(run))
    description = build_rows(describe_pairs(pairs, []))
    training_preview.show_pairs(prepared, description)
    data_preview.show_skipped({"dataset": read[1], "eval_dataset": read_held_out[1]})
    data_preview.show_filtered(counts)
    data_preview.show_limits({"dataset": args.dataset, "eval_dataset": args.eval_dataset})
    if dry_run:
        show_cost(args, prepared)
        return

    tracker = training_run.start_run(args, run)
    progress = training_run.build_progress_bar(prepared)
    policy = loading.load_policy(args, prepared.start)
    trainer = training_run.build_trainer(args, run, prepared, policy, tracker, progress)
    if prepared.reference:
        reference.replace_reference(policy, prepared.reference)
    earlier = run.read_environment().get("batch_layout")
    run.note_environment({"batch_layout": batch_layout.choose_layout(trainer, args.dpo, earlier)})
    if args.dpo.get("precompute_ref_log_probs"):
        reference.precompute_ref_logps(trainer)
    metrics = sanity_checks.check_start(trainer, prepared.start, prepared.reference)
    metrics |= training_run.train(args, run, prepared, trainer, tracker, progress)
    sanity_checks.check_end(policy, prepared.start, prepared.reference)
    metrics |= counts | prepared.train.dropped_metrics("dataset")
    if prepared.held_out:
        metrics |= prepared.held_out.dropped_metrics("eval_dataset")
    if distributed.is_main_process():
        run_training.save_adapter(policy, prepared.tokenizer, run.path / "adapter")
        training_run.write_and_upload(args, run, prepared, metrics, tracker, description)
        if args.export:
            merge.merge_in_subprocess(args, run.path / "adapter")


def filter_pairs(args: DPOArguments, read: Read, read_held_out: Read) -> tuple[list[Pair], list[Pair], dict[str, int]]:
    """The pairs and held-out pairs that pass the filters, and the metrics of those that were left out."""
    pairs, dropped = filter_dataset("dataset", read[0], args.dataset, args.scoring)
    counts = count_skipped("dataset", args.dataset, read[1]) | count_filtered("dataset", dropped)
    if not args.eval_dataset:
        return pairs, [], counts
    held_out, dropped = filter_dataset("eval_dataset", read_held_out[0], args.eval_dataset, args.scoring)
    counts |= count_skipped("eval_dataset", args.eval_dataset, read_held_out[1])
    return pairs, held_out, counts | count_filtered("eval_dataset", dropped)


def show_cost(args: DPOArguments, prepared: PreparedTraining) -> None:
    """Prints the expected memory, and where the base model is on this machine, the time and memory of a few steps."""
    memory = profiling.estimate_run_memory(args, prepared.config, prepared.start, prepared.train)
    training_preview.show_memory(memory)
    if profiling.is_base_model_cached(args) and profiling.fits_in_memory(memory):
        profile = profiling.profile_steps(args, prepared.tokenizer, prepared.start, prepared.train)
        training_preview.show_step_profile(profile)
