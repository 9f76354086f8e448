"""Checks everything that the rounds need before a model is loaded, and reports all errors together."""

from pathlib import Path

from response_generator.cli import preflight
from response_generator.config.args_file import PROGRAM_SECTIONS
from response_generator.config.rounds.stages import Stages
from response_generator.config.section import Section
from response_generator.config.source_list import Source, list_sources
from response_generator.data.raw_rows import count_rows
from response_generator.errors import InputError
from response_generator.runs.run_folder import RunFolder


def check_environment(stages: Stages, args_files: tuple[str, ...]) -> RunFolder:
    """Checks folders, files, hub ids and the number of dialogues.

    Returns:
        The folder of all rounds, with nothing written to it yet.

    Raises:
        InputError: with all errors found.
    """
    args = stages.args
    own_sources = list_sources(args)
    run = RunFolder.of(args, preflight.name_weights(own_sources), args_files)
    errors = run.find_errors(keeps_finished=True)
    if not errors and run.is_finished:
        return run
    errors += preflight.find_input_errors(args, own_sources)
    for section, program in zip(PROGRAM_SECTIONS, build_first_round(stages), strict=True):
        sources = [source for source in list_sources(program) if is_given(source, args.output_dir)]
        found = preflight.find_input_errors(program, sources)
        found += preflight.find_row_errors(sources, program.label_set)
        errors += [name_section(section, program, message) for message in found if message not in errors]
    errors = errors or run.find_weight_errors() or find_row_count_errors(stages)
    if errors:
        raise InputError(*dict.fromkeys(errors))
    return run


def build_first_round(stages: Stages) -> tuple[Section, Section, Section]:
    return stages.build_preferences(1), stages.build_dpo(1), stages.build_evaluation(1)


def is_given(source: Source, output_dir: str) -> bool:
    """Whether the user names the source there, and no round writes it."""
    is_adapter = source.key in ("adapter", "baseline_adapter", "reference_adapter")
    return not is_adapter and not Path(source.name).is_relative_to(output_dir)


def name_section(section: str, program: Section, message: str) -> str:
    """An error about a key of a program, with the section that it stands in."""
    key = message.partition(":")[0].partition(".")[0]
    return f"{section}.{message}" if key in type(program).model_fields else message


def find_row_count_errors(stages: Stages) -> list[str]:
    """Checks that every round has dialogues of its own."""
    dataset, args = stages.preferences.dataset, stages.args
    rows = max(0, count_rows(dataset) - dataset.offset)
    rows = rows if dataset.limit is None else min(rows, dataset.limit)
    needed = args.rounds * args.dialogues_per_round
    if rows >= needed:
        return []
    return [
        f"preference_args.dataset: {dataset.path}: has {rows} rows from offset {dataset.offset} on"
        f"{'' if dataset.limit is None else ' within its limit'}; {args.rounds} rounds of dialogues_per_round "
        f"{args.dialogues_per_round} need {needed}; lower one of the two"
    ]
