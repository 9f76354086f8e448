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

from response_generator import checkpoints, command_line, commits, export, hub, preflight, processes
from response_generator.arguments import DPOArguments
from response_generator.backends import import_backend
from response_generator.data import read_pairs, skipped_metrics


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
    from response_generator import checks, configuration, model, preview, reference, rehearsal, report, training
    from response_generator.callbacks import LogFile, ProgressBar, read_log
    from response_generator.chat_template import Renderer
    from response_generator.health import Watch
    from response_generator.pairs import tokenised
    from response_generator.tokenizer import load_tokenizer
    from response_generator.tracking import Tracker

    config = configuration.training_config(args)
    start = model.find_start(args)
    frozen = model.find_reference(args, start)
    export.check_base(args, start)
    tokenizer = load_tokenizer(args, start)
    renderer = Renderer.of(tokenizer, args.chat_template)
    train = tokenised(train_pairs, renderer, config.max_length)
    held_out = tokenised(held_out_pairs, renderer, config.max_length) if held_out_pairs else None
    owner = {"arguments": run.arguments, "data": [rows.digest() for rows in (train, held_out) if rows]}
    checkpoints.check_owner(run.path, owner)
    preview.show_pairs("training", train, renderer)
    preview.show_other_template(renderer)
    if held_out:
        preview.show_counts("held out", held_out, renderer)
        preview.show_shared_pairs(train, held_out)
    preview.show_skipped({"dataset": skipped, "eval_dataset": skipped_held_out})
    preview.show_scores(train_pairs)
    preview.show_limits({"dataset": args.dataset, "eval_dataset": args.eval_dataset})
    preview.show_departures(configuration.find_departures(args, config))
    preview.show_steps(len(train.rows), config)
    if options.dry_run:
        expected = rehearsal.expected_memory(args, config, start, train)
        preview.show_memory(expected)
        if rehearsal.at_hand(args) and rehearsal.fits(expected):
            preview.show_rehearsal(rehearsal.rehearse(args, tokenizer, start, train))
        return

    run.start()
    tracker = Tracker.start(args.wandb, run.path, run.arguments)
    policy = model.load_policy(args, start)
    run.note_environment(model.facts(policy))
    run.note_commits(commits.of_adapters_and_data(args))
    watch = Watch(config.beta)
    watchers = [
        LogFile(run.path / "log.jsonl", tracker),
        ProgressBar(len(train.rows)),
        watch,
        *configuration.early_stopping(args.dpo),
    ]
    trainer = training.build_trainer(policy, tokenizer, config, train, held_out, watchers, owner)
    if frozen:
        reference.replace(policy, frozen)
    if args.dpo.get("precompute_ref_log_probs"):
        reference.precompute(trainer)
    metrics = checks.check_start(trainer, start, frozen) | training.train(trainer)
    checks.check_end(policy, start, frozen)
    metrics |= skipped_metrics("dataset", args.dataset, skipped) | train.dropped_metrics("dataset")
    if held_out:
        metrics |= skipped_metrics("eval_dataset", args.eval_dataset, skipped_held_out)
        metrics |= held_out.dropped_metrics("eval_dataset")
    if not processes.is_first():
        return

    adapter, picture = run.path / "adapter", run.path / "training.png"
    training.save_adapter(policy, tokenizer, adapter)
    report.draw_training(read_log(run.path / "log.jsonl"), picture)
    report.write_model_card(adapter, run.arguments, metrics, len(train.rows), picture)
    run.write_json("metrics.json", metrics)
    report.show_training(metrics, watch.findings.values())
    tracker.log_image("training", picture)
    tracker.summarise(metrics)
    tracker.finish()
    print(f"done: the adapter is in {adapter}")
    if args.push_to_hub:
        hub.push(adapter, args.push_to_hub)
    if args.export:
        export.merge(args, adapter)


if __name__ == "__main__":
    sys.exit(command_line.run(main))
