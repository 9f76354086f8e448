"""Writing predictions.jsonl: rows are appended batch by batch while a model generates, and classified at the end.

candidates.jsonl, of which the best replies become rows of predictions.jsonl, has the same form."""

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from response_generator.config.scoring_schema import EvaluationScoringArguments
from response_generator.constants import CANDIDATES_FILE, THROUGHPUT_FILE
from response_generator.errors import InputError, RunError
from response_generator.evaluation.predictions_file import (
    Prediction,
    add_gold_target,
    find_row_error,
    group_by_model,
    has_gold_target,
    list_generated_fields,
)
from response_generator.evaluation.scorers import run_scorers
from response_generator.evaluation.scores import read_scores
from response_generator.generation.generation_requests import GenerationRequest, Replies, decode_reply
from response_generator.labels import Labels
from response_generator.runs import batch_rows, distributed, json_lines

RequestBatch = Sequence[GenerationRequest]
Report = Callable[[list[Replies]], Any]


def row_key(row: Prediction) -> tuple:
    return row.get("model"), row.get("index"), row.get("target_emotion"), row.get("sample")


def list_keys(model: str, batch: RequestBatch, samples: int) -> list[tuple]:
    """The keys of the rows of a batch."""
    return [(model, *request.key, sample) for request in batch for sample in range(samples)]


def find_remaining_batches(
    file: Path, models: Sequence[str], batches: list[RequestBatch], samples: int, labels: Labels
) -> dict[str, list[RequestBatch]]:
    """The batches that each model still has to generate, given what an earlier start has left in the file.

    Raises:
        InputError: when the rows there are of other prompts.
    """
    rows, remaining = batch_rows.find_remaining(
        file, models, batches, lambda model, batch: list_keys(model, batch, samples), row_key
    )
    requests = {request.key: request for batch in batches for request in batch}
    for line, row in enumerate(map(add_gold_target, rows), 1):
        message = find_row_error(row, list_generated_fields(labels), labels)
        if message:
            raise InputError(f"{file}, line {line}: {message}; repair the row, or delete it to generate it again")
        if any(row.get(name) != value for name, value in prompt_fields(requests[row_key(row)[1:3]]).items()):
            raise InputError(
                f"{file}: row {row['index']} has another prompt than dataset and chat_template give now: they have "
                f"changed since; name another output_dir"
            )
    if rows:
        print(f"{file}: {len(rows)} replies are already there")
    if distributed.is_main_process():
        # A full disk may have cut off the last line.
        throughput = file.with_name(THROUGHPUT_FILE)
        json_lines.write_jsonl(throughput, json_lines.read_jsonl(throughput, allow_truncated_tail=True))
    return remaining


def generate_predictions(
    file: Path,
    model_name: str,
    generate: Callable[[RequestBatch, Report], list[Replies]],
    batches: list[RequestBatch],
    samples: int,
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    """Generates for `batches`, appends the rows of each to the file and its speed to throughput.jsonl.

    Args:
        file: predictions.jsonl or candidates.jsonl.
        generate: returns the replies to the requests of a batch, and reports those that are finished on the way.

    Raises:
        KeyboardInterrupt: with a message that says how to continue.
        RunError: when the model computes no finite number.
    """

    def predict(batch: RequestBatch, report: Callable[[int], Any]) -> list[Prediction]:
        replies = generate(batch, lambda finished: report(len(finished) * samples))
        check_gold_logps(replies)
        return [row for each in replies for row in to_records(model_name, each, tokenizer)]

    task = f"{model_name}: generating"
    write_batches(file, model_name, task, batches, samples, predict, lambda rows: count_tokens(rows, file))


def count_tokens(rows: list[Prediction], file: Path) -> dict[str, int]:
    """What generated rows count as. A candidate is no reply of the model yet: its tokens and its time are what the
    chosen reply costs."""
    replies = 0 if file.name == CANDIDATES_FILE else len(rows)
    return {"replies": replies, "new_tokens": sum(row["new_tokens"] for row in rows)}


def append_speed(file: Path, model_name: str, counts: dict[str, int], seconds: float) -> None:
    """Appends to throughput.jsonl how many rows were added to `file` in how many seconds."""
    speed = {"model": model_name, **counts, "seconds": round(seconds, 3)}
    json_lines.append_jsonl(file.with_name(THROUGHPUT_FILE), [speed])


def write_batches(
    file: Path,
    model_name: str,
    task: str,
    batches: list[RequestBatch],
    samples: int,
    predict: Callable[[RequestBatch, Callable[[int], Any]], list[Prediction]],
    measure: Callable[[list[Prediction]], dict[str, int]],
) -> None:
    """Appends the rows of each batch to the file, and to throughput.jsonl what they count and the seconds they took.

    Args:
        task: the title of the progress bar.
        samples: rows of each prompt.
        predict: returns the rows of a batch; it may report how many more it has.
        measure: what the rows count as, `{"replies", "new_tokens"}`.

    Raises:
        KeyboardInterrupt: with a message that says how to continue.
    """
    if not batches:
        return
    written = 0
    with batch_rows.progress_bar(task, sum(map(len, batches)) * samples, "reply") as bar:

        def log_speed(rows: list[Prediction], seconds: float) -> None:
            nonlocal written
            written += len(rows)
            bar.update(written - bar.n)  # of all processes
            append_speed(file, model_name, measure(rows), seconds)

        try:
            batch_rows.map_batches(file, batches, lambda batch: predict(batch, bar.update), log_speed)
        except KeyboardInterrupt as interruption:
            message = f"the finished batches are in {file}; run the same command again to continue"
            raise KeyboardInterrupt(message) from interruption


def check_gold_logps(replies: Sequence[Replies]) -> None:
    """Checks the log-probabilities of gold replies.

    Raises:
        RunError: when one is not finite.
    """
    for each in replies:
        if each.gold_logp is not None and not math.isfinite(each.gold_logp):
            raise RunError(
                f"row {each.request.dialogue.index}: the log-probability of its gold reply is {each.gold_logp}: the "
                f"model computes no valid numbers; is its adapter damaged, or its dtype float16?"
            )


def prompt_fields(request: GenerationRequest) -> dict[str, Any]:
    """The fields of a row that describe its prompt; without labels there is no target emotion."""
    dialogue = request.dialogue
    targets = {"target_emotion": dialogue.target_emotion, "gold_target": dialogue.gold_target}
    return {
        "prompt": request.prompt,
        "history": dialogue.history,
        **(targets if dialogue.target_emotion is not None else {}),
        "gold_response": dialogue.gold_response,
    }


def to_records(model: str, replies: Replies, tokenizer: PreTrainedTokenizerBase) -> Iterator[Prediction]:
    """The rows of all samples of a request."""
    request = replies.request
    for sample, tokens in enumerate(replies.samples):
        yield {
            "index": request.dialogue.index,
            "sample": sample,
            "model": model,
            **prompt_fields(request),
            "response": decode_reply(tokens, tokenizer),
            "new_tokens": len(tokens),
            "hit_max_new_tokens": tokens[-1] != tokenizer.eos_token_id,
            "gold_tokens": len(request.gold_ids),
            **({} if replies.gold_logp is None else {"gold_logp": round(replies.gold_logp, 4)}),
        }


def read_throughput(folder: Path) -> dict[str, dict[str, float]]:
    """`{model: {"replies_per_second", "new_tokens_per_second", "generated_tokens_per_reply"}}` over all starts of a
    run; empty without a file. Of the best of several replies, all tokens that were generated count."""
    totals: dict[str, dict[str, float]] = {}
    for entry in json_lines.read_jsonl(folder / THROUGHPUT_FILE, allow_truncated_tail=True):
        total = totals.setdefault(entry["model"], dict.fromkeys(("replies", "new_tokens", "seconds"), 0.0))
        for name in total:
            total[name] += entry[name]
    return {
        model: {f"{name}_per_second": total[name] / total["seconds"] for name in ("replies", "new_tokens")}
        | {"generated_tokens_per_reply": total["new_tokens"] / total["replies"]}
        for model, total in totals.items()
        if total["seconds"] and total["replies"]
    }


def score_predictions(
    rows: list[Prediction], scoring: EvaluationScoringArguments, labels: Labels, seed: int
) -> list[Prediction]:
    """Adds what the scorers and the rules say; rows in the order of models, prompts, targets and samples.

    Args:
        seed: see `run_scorers`.
    """
    rows = [row for each in group_by_model(rows, labels).values() for row in each]
    gold = {row["index"]: row | {"response": row["gold_response"]} for row in rows if has_gold_target(row)}
    found, found_of_gold = run_scorers(rows, list(gold.values()), scoring, labels, seed)
    of_gold = dict(zip(gold, found_of_gold, strict=True))
    fields = list_generated_fields(labels)
    return [
        {name: row[name] for name in fields if name in row} | read_scores(row, of_reply, of_gold[row["index"]])
        for row, of_reply in zip(rows, found, strict=True)
    ]
