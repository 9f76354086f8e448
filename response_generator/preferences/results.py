"""The last step of building: writes preferences.jsonl, what became of the other prompts, metrics, report and card."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from response_generator.config.preference_schema import PreferenceDataArguments
from response_generator.constants import FAILED_PROMPTS_FILE, PREFERENCES_FILE
from response_generator.data.datasets import Pair
from response_generator.errors import RunError
from response_generator.generation.server.facts import describe_noted
from response_generator.preferences import report
from response_generator.preferences.attempts import Attempt
from response_generator.preferences.description import describe_pairs
from response_generator.preferences.description_table import Rows, build_rows, show_description
from response_generator.preferences.filters import count_filtered, filter_set
from response_generator.preferences.sampling_rounds import Outcome
from response_generator.reporting.markdown import Markdown, format_source, format_table, format_value
from response_generator.runs import atomic_files, json_lines
from response_generator.runs.run_folder import RunFolder, flatten
from response_generator.runs.short_names import build_page_title, name_adapters
from response_generator.runs.tracking import Tracker


def write_results(
    args: PreferenceDataArguments,
    run: RunFolder,
    outcomes: Sequence[Outcome],
    counts: dict[str, int],
    tracker: Tracker,
) -> None:
    """Writes all files; metrics.json, which marks the run as finished, comes last.

    Args:
        counts: skipped rows, added to metrics.json.

    Raises:
        RunError: when no prompt has a pair.
    """
    failed = [to_failed_record(outcome) for outcome in outcomes if not outcome.pairs]
    json_lines.write_jsonl(run.path / FAILED_PROMPTS_FILE, failed)
    attempts = {outcome.prompt.index: outcome for outcome in outcomes}
    pairs, dropped = filter_set([pair for outcome in outcomes for pair in outcome.pairs], args.filters, args.label_set)
    metrics = count_outcomes(outcomes, args.candidates) | counts | count_filtered("pairs", dropped)
    if not pairs:
        raise RunError(
            f"no prompt has a pair that passes the filters; attempts that failed a filter: {list_failures(metrics)} "
            f"(each prompt's are in {run.path / FAILED_PROMPTS_FILE}); loosen these filters, or leave one out with "
            f"--set filters.NAME=null, in a run with another output_dir"
        )
    json_lines.write_jsonl(run.path / PREFERENCES_FILE, [to_record(pair, attempts[pair.index]) for pair in pairs])
    metrics |= describe_pairs(pairs, [], args.label_set)
    rows = list_outcome_rows(metrics) + build_rows(metrics)
    title = build_page_title("Preference pairs", run.path, name_adapters({"adapter": args.adapter}))
    settings, notes = flatten(run.arguments), describe_noted(run.read_environment())
    pictures = report.write_report(title, pairs, rows, failed, settings, args.label_set, run.path, notes)
    atomic_files.atomic_write(run.path / "README.md", format_card(args, rows).encode("utf-8"))
    for picture in pictures:
        tracker.log_image(picture.stem, picture)
    tracker.summarize(metrics)
    tracker.finish()
    run.write_json("metrics.json", metrics)
    show_description(rows)
    print(f"done: {len(pairs)} pairs are in {run.path / PREFERENCES_FILE}; open {run.path / 'report.html'}")


def to_record(pair: Pair, outcome: Outcome) -> dict[str, Any]:
    """A row of preferences.jsonl: what training reads, and the labels of both replies."""
    attempt: Attempt = outcome.chosen_from
    by_text = {each.text: each for each in attempt.candidates}
    chosen = by_text.get(pair.chosen["dialog"], attempt.gold)
    rejected = by_text[pair.rejected["dialog"]]
    row: dict[str, Any] = {
        "prompt": pair.prompt,
        "chosen": [{"role": "assistant", "content": pair.chosen}],
        "rejected": [{"role": "assistant", "content": pair.rejected}],
        "chosen_score": pair.chosen_score,
        "rejected_score": pair.rejected_score,
        "index": pair.index,
        "attempts": outcome.attempts,
    }
    for side, candidate in (("chosen", chosen), ("rejected", rejected)):
        row |= {
            f"{side}_emotion": candidate.emotion,
            f"{side}_emotion_score": candidate.emotion_score,
            f"{side}_gibberish_label": candidate.gibberish_label,
            f"{side}_gibberish_score": candidate.gibberish_score,
        }
        if candidate.fit is not None:
            row[f"{side}_fit"] = candidate.fit
    return row


def to_failed_record(outcome: Outcome) -> dict[str, Any]:
    return {
        "index": outcome.prompt.index,
        "target_emotion": outcome.prompt.target_emotion,
        "last_turn": outcome.prompt.history[-1]["content"]["dialog"],
        "attempts": outcome.attempts,
        "failures": dict(outcome.failures.most_common()),
    }


def count_outcomes(outcomes: Sequence[Outcome], candidates: int) -> dict[str, float]:
    """How many prompts have a pair, how many attempts that took, and which filters attempts have failed."""
    accepted = sum(bool(outcome.pairs) for outcome in outcomes)
    attempts = sum(outcome.attempts for outcome in outcomes)
    failures = sum((outcome.failures for outcome in outcomes), Counter())
    return {
        "tried_prompts": len(outcomes),
        "accepted_prompts": accepted,
        "failed_prompts": len(outcomes) - accepted,
        "accepted_share": accepted / len(outcomes),
        "attempts": attempts,
        "attempts_per_prompt": attempts / len(outcomes),
        "candidates": attempts * candidates,
    } | {f"failed_attempts/{name}": count for name, count in failures.most_common()}


def list_failures(metrics: dict[str, float]) -> str:
    """The filters that attempts have failed, each with their number."""
    prefix = "failed_attempts/"
    failures = [f"{name.removeprefix(prefix)} {count}" for name, count in metrics.items() if name.startswith(prefix)]
    return ", ".join(failures) or "none"


def list_outcome_rows(metrics: dict[str, float]) -> Rows:
    return [
        ("prompts tried", str(metrics["tried_prompts"])),
        ("prompts with a pair", f"{metrics['accepted_prompts']} ({metrics['accepted_share']:.1%})"),
        ("attempts per prompt", f"{metrics['attempts_per_prompt']:.2f}"),
        ("attempts that failed a filter", list_failures(metrics)),
    ]


def format_card(args: PreferenceDataArguments, rows: Rows) -> str:
    """README.md, the card of the data set, with the metadata that the hub reads."""
    classifiers = {"emotion": args.scoring.emotion_model, "gibberish": args.scoring.gibberish_model}
    settings = {
        "prompts": Markdown(f"{format_source(args.dataset.path)}, split {format_value(args.dataset.split)}"),
        "model": Markdown(f"{format_source(args.base_model)} with the adapter {format_source(args.adapter)}"),
        **{f"{kind} classifier": format_source(name) for kind, name in classifiers.items() if name is not None},
        **({"model for the fit": format_source(args.scoring.fit_model)} if args.scoring.fit_model else {}),
        "candidates per attempt": args.candidates,
        "attempts at most": args.max_attempts,
        "generation": args.generation,
        "reward": args.reward.model_dump(),
        "pair selection": args.pair_selection,
        "filters": args.filters.model_dump(exclude_none=True),
        "seed": args.seed,
    }
    return (
        "---\nconfigs:\n- config_name: default\n  data_files: preferences.jsonl\ntags: [dpo, preference, trl]\n---\n"
        "# Preference pairs of a response generator\n\n"
        "Both replies of a pair were sampled from the model named below for the same prompt. The scores are rewards "
        "made of the labels of the classifiers, the length and the other parts of the reward below; they are not meant "
        "as input of training. A model that is trained on these pairs should be evaluated with other models than those "
        "that scored them. The terms of the prompts' data and of the model hold for the pairs too; whoever publishes "
        "them names a license here.\n\n"
        f"{format_table(dict(rows))}\n![margins](margins.png)\n\n## How the pairs were made\n\n"
        f"{format_table(settings)}"
    )
