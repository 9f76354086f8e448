"""The last step of an evaluation: classify the replies, compare the models, and write all results."""

from response_generator.config.schema import EvaluateArguments
from response_generator.constants import ADAPTER, BASELINE, PREDICTIONS_FILE
from response_generator.evaluation import examples, pair_logprobs, predictions, predictions_file, report, terminal_table
from response_generator.evaluation.comparison import compare_models
from response_generator.runs import json_lines, run_folder
from response_generator.runs.run_folder import RunFolder
from response_generator.runs.short_names import build_page_title, name_adapters
from response_generator.runs.tracking import Tracker
from response_generator.scoring import classifiers


def score_and_report(
    args: EvaluateArguments,
    run: RunFolder,
    rows: list[predictions_file.Prediction],
    settings: dict,
    counts: dict[str, int],
    tracker: Tracker,
) -> None:
    """Classifies the replies, and writes predictions.jsonl, metrics.json and the report.

    Args:
        rows: the generated replies of all models.
        settings: shown in the report.
        counts: skipped rows and dropped pairs, added to metrics.json.
    """
    scored = predictions.score_predictions(rows, args.scoring)
    json_lines.write_jsonl(run.path / PREDICTIONS_FILE, scored)
    comparison = compare_models(
        predictions_file.group_by_model(scored),
        classifiers.read_label_names(args.scoring.gibberish_model),
        args.bootstrap_resamples,
        args.seed,
        pair_logprobs.read_reward_margins(run.path, args.preferences),
    )
    throughput = predictions.read_throughput(run.path)
    adapters = {ADAPTER: settings.get("adapter"), BASELINE: settings.get("baseline_adapter")}
    contents = name_adapters({model: adapter for model, adapter in adapters.items() if adapter})
    title = build_page_title("Evaluation", run.path, contents)
    environment = run.flatten_environment()
    pictures = report.write_report(comparison, title, run_folder.flatten(settings), environment, run.path)
    metrics = comparison.flatten() | counts
    metrics |= {f"{model}/{key}": value for model, speed in throughput.items() for key, value in speed.items()}
    tracker.log_table("predictions", *predictions_file.to_tracker_table(scored))
    for picture in pictures:
        tracker.log_image(picture.stem, picture)
    tracker.summarize(metrics)
    tracker.finish()
    run.write_json("metrics.json", metrics)
    terminal_table.show_table(comparison, throughput)
    examples.show_examples(comparison)
    print(f"done: open {run.path / 'report.html'}; metrics, replies and pictures are beside it")
