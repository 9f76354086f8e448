"""Rounds of pairs, DPO and evaluation, from the first one that is not finished to the report."""

from collections.abc import Callable
from pathlib import Path

from accelerate.utils.memory import clear_device_cache

from response_generator.cli import preflight
from response_generator.cli.data_preview import console
from response_generator.config.library.library_keywords import read_default
from response_generator.config.preference_schema import PreferenceDataArguments
from response_generator.config.rounds.stages import Stages
from response_generator.config.schema import EvaluateArguments
from response_generator.config.section import Section
from response_generator.config.training_schema import DPOArguments
from response_generator.data.datasets import Dialogue, Pair, get_text, make_content
from response_generator.data.reading import read_datasets, read_dialogues
from response_generator.evaluation import pipeline
from response_generator.preferences.windows import cut_windows
from response_generator.programs import dpo_run, evaluation_run, pair_building_run
from response_generator.rounds import report
from response_generator.rounds.kept_adapter import keep_adapter
from response_generator.rounds.limits import Round, choose_best, describe_limits, find_stop_reason
from response_generator.runs import batch_rows, distributed
from response_generator.runs.run_folder import RunFolder, read_json
from response_generator.training import preparation
from response_generator.training.cost import device_memory


def run_rounds(stages: Stages, run: RunFolder) -> None:
    """Runs one round after the other until one of them is to be the last, and keeps the best."""
    console.print(describe_limits(stages.args.stop), soft_wrap=True, markup=False)
    check_later_programs(stages)
    run.start()
    rounds: list[Round] = []
    reason = None
    while reason is None and len(rounds) < stages.args.rounds:
        number = len(rounds) + 1
        run_program(stages, number, "pairs", stages.build_preferences(number), build_pairs)
        run_program(stages, number, "DPO", stages.build_dpo(number), train)
        run_program(stages, number, "evaluation", stages.build_evaluation(number), evaluate)
        rounds.append(read_round(stages, number))
        reason = find_stop_reason(rounds, stages.args.stop)
        if distributed.is_main_process():
            report.write_report(stages.args, run, rounds, reason)
    batch_rows.shutdown_distributed()
    if distributed.is_main_process():
        best = choose_best(rounds, stages.args.stop)
        if best:
            keep_adapter(Path(stages.locate_adapter(best.number)), run.path / "adapter")
        report.write_results(stages.args, run, rounds, reason)


def run_program(
    stages: Stages, number: int, name: str, args: Section, start: Callable[[Section, RunFolder], None]
) -> None:
    """Runs one program of a round to its end, unless an earlier start has done so, and frees the memory that it took.
    All processes return when the main process has written its results."""
    console.print(f"\n[bold]round {number} of {stages.args.rounds}: {name}[/bold]")
    run = preflight.check_environment(args)
    if run.is_finished:
        console.print(f"finished: {run.path}", soft_wrap=True, markup=False)
        return
    device_memory.reset_peak()
    start(args, run)
    distributed.wait_for_main_process(run.path / "metrics.json")
    clear_device_cache(garbage_collection=True)


def build_pairs(args: PreferenceDataArguments, run: RunFolder) -> None:
    dialogues, skipped = read_dialogues(args.dataset, args.label_set)
    pair_building_run.build(args, run, dialogues, skipped, dry_run=False, more_follows=True)


def train(args: DPOArguments, run: RunFolder) -> None:
    dpo_run.align(args, run, read_datasets(args.label_set, args.dataset, args.eval_dataset), dry_run=False)


def evaluate(args: EvaluateArguments, run: RunFolder) -> None:
    evaluation_run.evaluate(args, run, read_evaluation_rows(args), dry_run=False, more_follows=True)


def read_evaluation_rows(args: EvaluateArguments) -> evaluation_run.Rows:
    return read_datasets(args.label_set, args.dataset, args.heldout_pairs.dataset if args.heldout_pairs else None)


def read_round(stages: Stages, number: int) -> Round:
    evaluation = read_json(stages.locate_evaluation(number) / "metrics.json")
    training = read_json(stages.locate_dpo(number) / "metrics.json")
    return Round.of(number, evaluation, training, stages.dpo.dpo.get("beta", read_default("dpo", "beta")))


def check_later_programs(stages: Stages) -> None:
    """Checks the settings of training and evaluation before the pairs of the first round are sampled, which may take
    hours.

    Raises:
        InputError: with what is wrong.
    """
    if not RunFolder.of(stages.build_preferences(1)).is_finished:
        dpo, held_out = stages.build_dpo(1), read_held_out(stages)
        preparation.prepare_dpo(dpo, pair_gold_replies(stages), held_out)
        (dialogues, _), (pairs, _) = read_evaluation_rows(stages.evaluation)
        pipeline.prepare_evaluation(build_evaluation_of_start(stages), dialogues, pairs)


def preview(stages: Stages) -> None:
    """Shows data and cost of the first round and writes nothing. Where its own pairs and adapter are not there yet, the
    gold replies and the first adapter take their places."""
    preferences, dpo, evaluation = stages.build_preferences(1), stages.build_dpo(1), build_evaluation_of_start(stages)
    console.print(f"{stages.args.rounds} rounds at most; the first is shown")
    console.print(describe_limits(stages.args.stop), soft_wrap=True, markup=False)
    show_program("pairs")
    dialogues, skipped = read_dialogues(preferences.dataset, preferences.label_set)
    pair_building_run.build(preferences, RunFolder.of(preferences), dialogues, skipped, dry_run=True)
    show_program("DPO, as if every prompt had a pair: its gold reply and that of another prompt")
    rows = read_datasets(dpo.label_set, None, dpo.eval_dataset)
    no_filters = dpo.dataset.model_copy(update={"filters": type(dpo.dataset.filters)()})
    dpo = dpo.model_copy(update={"dataset": no_filters})
    dpo_run.align(dpo, RunFolder.of(dpo), [(pair_gold_replies(stages), rows[0][1]), rows[1]], dry_run=True)
    clear_device_cache(garbage_collection=True)
    show_program("evaluation, with the first adapter in the place of the trained one")
    evaluation_run.evaluate(evaluation, RunFolder.of(evaluation), read_evaluation_rows(evaluation), dry_run=True)


def show_program(name: str) -> None:
    console.print(f"\n[bold]round 1: {name}[/bold]")


def build_evaluation_of_start(stages: Stages) -> EvaluateArguments:
    return stages.build_evaluation(1).model_copy(update={"adapter": stages.args.adapter})


def read_held_out(stages: Stages) -> list[Pair]:
    ((held_out, _),) = read_datasets(stages.dpo.label_set, stages.dpo.eval_dataset)
    return held_out


def pair_gold_replies(stages: Stages) -> list[Pair]:
    """A pair for each prompt of the first round: the gold reply is chosen, that of the next prompt rejected."""
    args = stages.build_preferences(1)
    prompts, _ = cut_windows(read_dialogues(args.dataset, args.label_set)[0], args)
    others = [*prompts[1:], prompts[0]]
    return [pair_replies(prompt, other) for prompt, other in zip(prompts, others, strict=True)]


def pair_replies(prompt: Dialogue, other: Dialogue) -> Pair:
    target, gold = prompt.target_emotion, prompt.gold_response
    # TRL drops pairs of equal replies; a single prompt has no other one.
    other_text = other.gold_response if other.gold_response != gold else get_text(prompt.history[-1]["content"])
    chosen, rejected = make_content(target, gold), make_content(target, other_text)
    return Pair(prompt.index, prompt.history, chosen, rejected, None, None)
