"""Aligns an adapter with DPO.

    python fine_tune_dpo.py --json_file args/dpo_arg.json

Reads preference pairs, trains a copy of the SFT adapter against a frozen one on the same 4-bit base, and leaves in
output_dir: adapter/ (what evaluate.py reads), metrics.json, log.jsonl, training.png, args.json, environment.json.
"""

import signal
import sys
from pathlib import Path

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C while the rest is imported ends without a traceback

from response_generator.cli import command_line, commits, preflight
from response_generator.config.schema import DPOArguments
from response_generator.data.datasets import read_pairs, skipped_metrics
from response_generator.modeling import merge
from response_generator.modeling.backend import import_backend
from response_generator.runs import distributed, hub
from response_generator.training import checkpointing


def main() -> None:
    options = command_line.parser_for(DPOArguments, __doc__)[0].parse_args()
    args = command_line.arguments_of(DPOArguments, options)
    run = preflight.check(args)
    if run.is_finished:
        print(f"{run.path} is finished: see metrics.json and training.png there")
        if args.export and not Path(args.export.path).exists():
            print(f"it is not exported yet: python -m response_generator.export {run.path}")
        return
    train_pairs, skipped = read_pairs(args.dataset)
    held_out_pairs, skipped_held_out = read_pairs(args.eval_dataset) if args.eval_dataset else ([], {})

    import_backend(args.backend)  # unsloth has to be imported before transformers, trl and peft
    from response_generator.cli import preview
    from response_generator.data.chat_template import ChatFormatter
    from response_generator.data.tokenization import tokenize_pairs
    from response_generator.modeling import loading
    from response_generator.modeling.tokenizer import load_tokenizer
    from response_generator.runs.tracking import Tracker
    from response_generator.training import dpo_config, profiling, reference, report, sanity_checks, train_dpo
    from response_generator.training.callbacks import LogFile, ProgressBar, read_log
    from response_generator.training.health import TrainingHealthCallback

    config = dpo_config.training_config(args)
    start = loading.resolve_initial_adapter(args)
    frozen = loading.resolve_reference_adapter(args, start)
    merge.check_export_base(args, start)
    tokenizer = load_tokenizer(args, start)
    renderer = ChatFormatter.of(tokenizer, args.chat_template)
    train = tokenize_pairs(train_pairs, renderer, config.max_length)
    held_out = tokenize_pairs(held_out_pairs, renderer, config.max_length) if held_out_pairs else None
    owner = {"arguments": run.arguments, "data": [rows.digest() for rows in (train, held_out) if rows]}
    checkpointing.check_owner(run.path, owner)
    preview.show_pairs("training", train, renderer)
    preview.show_other_template(renderer)
    if held_out:
        preview.show_counts("held out", held_out, renderer)
        preview.show_shared_pairs(train, held_out)
    preview.show_skipped({"dataset": skipped, "eval_dataset": skipped_held_out})
    preview.show_scores(train_pairs)
    preview.show_limits({"dataset": args.dataset, "eval_dataset": args.eval_dataset})
    preview.show_departures(dpo_config.find_departures(args, config))
    preview.show_steps(len(train.rows), config)
    if options.dry_run:
        expected = profiling.expected_memory(args, config, start, train)
        preview.show_memory(expected)
        if profiling.is_base_model_cached(args) and profiling.fits(expected):
            preview.show_step_profile(profiling.profile_steps(args, tokenizer, start, train))
        return

    run.start()
    tracker = Tracker.start(args.wandb, run.path, run.arguments)
    policy = loading.load_policy(args, start)
    run.note_environment(loading.describe_model(policy))
    run.note_commits(commits.of_adapters_and_data(args))
    watch = TrainingHealthCallback(config.beta)
    watchers = [
        LogFile(run.path / "log.jsonl", tracker),
        ProgressBar(len(train.rows)),
        watch,
        *dpo_config.early_stopping(args.dpo),
    ]
    trainer = train_dpo.build_trainer(policy, tokenizer, config, train, held_out, watchers, owner)
    if frozen:
        reference.replace(policy, frozen)
    if args.dpo.get("precompute_ref_log_probs"):
        reference.precompute(trainer)
    metrics = sanity_checks.check_start(trainer, start, frozen) | train_dpo.train(trainer)
    sanity_checks.check_end(policy, start, frozen)
    metrics |= skipped_metrics("dataset", args.dataset, skipped) | train.dropped_metrics("dataset")
    if held_out:
        metrics |= skipped_metrics("eval_dataset", args.eval_dataset, skipped_held_out)
        metrics |= held_out.dropped_metrics("eval_dataset")
    if not distributed.is_main_process():
        return

    adapter, picture = run.path / "adapter", run.path / "training.png"
    train_dpo.save_adapter(policy, tokenizer, adapter)
    report.draw_training(read_log(run.path / "log.jsonl"), picture)
    report.write_model_card(adapter, run.arguments, metrics, len(train.rows), picture)
    run.write_json("metrics.json", metrics)
    report.show_training(metrics, watch.findings.values())
    tracker.log_image("training", picture)
    tracker.summarize(metrics)
    tracker.finish()
    print(f"done: the adapter is in {adapter}")
    if args.push_to_hub:
        hub.push(adapter, args.push_to_hub)
    if args.export:
        merge.merge_in_subprocess(args, adapter)


if __name__ == "__main__":
    sys.exit(command_line.run(main))
