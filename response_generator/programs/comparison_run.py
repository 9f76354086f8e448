"""A comparison of finished evaluations, from their predictions to the report."""

from pathlib import Path

from response_generator.cli import data_preview
from response_generator.evaluation import comparison, finished_runs
from response_generator.evaluation.reply_methods import describe_methods
from response_generator.evaluation.reporting import examples, report, terminal_table
from response_generator.runs import distributed
from response_generator.runs.run_folder import RunFolder
from response_generator.runs.short_names import build_page_title
from response_generator.scoring.quality import read_quality


def compare(names: list[str], folder: Path) -> None:
    """Compares the adapters of finished runs on the same prompts.

    Args:
        names: RUN_FOLDER, or NAME=RUN_FOLDER,RUN_FOLDER,… for runs of one recipe with different random seeds.
        folder: where the report is written.
    """
    if not distributed.is_main_process():
        return
    models = [finished_runs.parse_model(name) for name in names]
    runs = finished_runs.read_runs(models)
    run = RunFolder(folder, {"compare": [model.describe() for model in models]})
    finished_runs.check_output_folder(run)
    found = comparison.compare_models(runs.rows, runs.labels, [], runs.bootstrap_resamples, runs.seed)
    quality = read_quality(str(models[0].folders[0]))  # of the classifier as it was then
    run.start()
    title = build_page_title("Evaluation", run.path, found.models)
    folders = [folder for model in models for folder in model.folders]
    notes = describe_methods(dict(zip(runs.arguments, folders, strict=True)))
    report.write_report(found, title, runs.settings(), run.flatten_environment(), run.path, quality, notes=notes)
    run.write_json("metrics.json", found.flatten())
    terminal_table.show_table(found, {})
    examples.show_examples(found)
    for note in notes:
        data_preview.show_warning(note)
    print(f"done: open {run.path / 'report.html'}; metrics and pictures are beside it")
