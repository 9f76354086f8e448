"""Evaluates an adapter, and a baseline beside it, on the same prompts.

    python evaluate.py --json_file args/evaluate_arg.json

Samples a reply to every dialogue of the data set, asks the classifiers what each expresses, and leaves in output_dir:
predictions.jsonl, metrics.json, evaluation.png, args.json, environment.json.
"""

import sys

from response_generator import command_line, preflight
from response_generator.arguments import EvaluateArguments
from response_generator.backends import import_backend
from response_generator.data import read_dialogues


def main() -> None:
    args, dry_run = command_line.read_arguments(EvaluateArguments, __doc__)
    run = preflight.check(args)
    if run.is_finished:
        print(f"{run.path} is finished: see metrics.json, predictions.jsonl and evaluation.png there")
        return
    dialogues = read_dialogues(args.dataset)

    import_backend(args.backend)  # unsloth has to be imported before transformers, trl and peft
    from response_generator import (
        contestants,
        evaluation_report,
        generation,
        metrics,
        model,
        predictions,
        preview,
        scoring,
    )
    from response_generator.chat_template import Renderer
    from response_generator.tracking import Tracker

    scoring.check_emotion_labels(args.scoring)
    gibberish_labels = scoring.label_names(args.scoring.gibberish_model)
    sides = contestants.find(args)
    tokenizer = model.load_tokenizer(args, sides[contestants.ADAPTER])
    renderer = Renderer.of(tokenizer, args.chat_template)
    config = generation.generation_config(args.generation, tokenizer)
    preview.show_prompts(dialogues, renderer, config)
    if dry_run:
        return

    run.start()
    tracker = Tracker.start(args.wandb, run.path, run.arguments)
    speaker = contestants.load(args, sides)
    run.note_environment(model.facts(speaker))
    rows, figures = [], {}
    for name, adapter in sides.items():
        print(f"\n{name}: {adapter.folder if adapter else 'the bare base model'}")
        with contestants.speaking_as(speaker, adapter, name):
            generated = generation.generate(speaker, renderer, dialogues, config, args.batch_size, args.seed)
        scored = predictions.scored(name, generated.replies, args.scoring)
        of_model = metrics.of_model(scored, gibberish_labels, generated.seconds)
        figures |= {f"{name}/{key}": value for key, value in of_model.items()}
        rows += scored
    predictions.write(rows, run.path / "predictions.jsonl")
    references = scoring.emotions_of([dialogue.reference for dialogue in dialogues], args.scoring)
    targets = [dialogue.target_emotion for dialogue in dialogues]
    figures |= metrics.of_judge(targets, [verdict.label for verdict in references])

    evaluation_report.draw(figures, list(sides), run.path / "evaluation.png")
    run.write_json("metrics.json", figures)
    evaluation_report.show(figures, list(sides))
    tracker.log_table("predictions", list(rows[0]), [list(row.values()) for row in rows])
    tracker.log_image("evaluation", run.path / "evaluation.png")
    tracker.summarise(figures)
    tracker.finish()
    print(f"done: figures, replies and picture are in {run.path}")


if __name__ == "__main__":
    sys.exit(command_line.run(main))
