"""Aligns an adapter with DPO.

    python fine_tune_dpo.py --json_file args/dpo_arg.json

Reads preference pairs, trains a copy of the SFT adapter against a frozen one on the same 4-bit base, and leaves in
output_dir: adapter/ (what evaluate.py reads), metrics.json, log.jsonl, training.png, args.json, environment.json.
"""

import sys

from response_generator import command_line, preflight
from response_generator.arguments import DPOArguments
from response_generator.backends import import_backend
from response_generator.data import read_pairs


def main() -> None:
    args, dry_run = command_line.read_arguments(DPOArguments, __doc__)
    run = preflight.check(args)
    if run.is_finished:
        print(f"{run.path} is finished; its results are in metrics.json and training.png")
        return
    pairs = read_pairs(args.dataset)
    held_out_pairs = read_pairs(args.eval_dataset) if args.eval_dataset else None

    import_backend(args.backend)  # unsloth has to be imported before transformers, trl and peft
    from response_generator import adapters, callbacks, model, pairs as pair_tokens, preview, report, sources, training
    from response_generator.chat_template import Renderer
    from response_generator.tracking import Tracker

    base_config = model.load_config(args)
    source = adapters.AdapterFile.read(sources.adapter_folder(args.adapter))
    source.check_fits("adapter", base_config)
    tokenizer = model.load_tokenizer(args, source)
    model.check_vocabulary(tokenizer, source, base_config, "adapter")
    config = training.training_config(args.dpo, str(run.path), args.seed)
