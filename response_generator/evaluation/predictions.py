"""predictions.jsonl as it comes about: it grows while models speak; judges then complete its rows."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from peft import PeftModel
from transformers import PreTrainedTokenizerBase

from response_generator.config.schema import ScoringArguments
from response_generator.errors import InputError
from response_generator.evaluation.predictions_file import FILE, GENERATED_FIELDS, Prediction, by_model, invalid_reason
from response_generator.generation.sampling import Completion, GenerationRequest, SamplingParams, generate_batch
from response_generator.runs import distributed, json_lines, resumable
from response_generator.scoring.classifiers import classify_emotions, classify_gibberish
from response_generator.scoring.rules import is_complete

SPEED_FILE = "generation.jsonl"

Batch = Sequence[GenerationRequest]


def key(row: Prediction) -> tuple:
    return row.get("model"), row.get("index"), row.get("sample")


def outstanding(folder: Path, models: Sequence[str], batches: list[Batch], samples: int) -> dict[str, list[Batch]]:
    """The batches that each model has still to answer, after what an earlier start has left in `folder`.

    Raises:
        InputError: when what is there answers other prompts.
    """

    def keys(model: str, batch: Batch) -> list[tuple]:
        return [(model, request.dialogue.index, sample) for request in batch for sample in range(samples)]

    rows, left = resumable.remaining_batches(folder / FILE, models, batches, keys, key)
    asked = {request.dialogue.index: request for batch in batches for request in batch}
    for line, row in enumerate(rows, 1):
        fault = invalid_reason(row, GENERATED_FIELDS)
        if fault:
            raise InputError(
                f"{folder / FILE}, line {line}: {fault}; mend the row, or delete it to have it drawn again"
            )
        request = asked[row["index"]]
        if any(row[name] != value for name, value in of_prompt(request).items()):
            raise InputError(
                f"{folder / FILE}: answers another prompt in row {row['index']} than dataset and chat_template give "
                f"now: they have changed since; name another output_dir"
            )
    if rows:
        print(f"{folder / FILE}: {len(rows)} replies are there already")
    if distributed.is_main_process():
        speeds = folder / SPEED_FILE
        whole = json_lines.read_jsonl(speeds, allow_truncated_tail=True)  # without what a full disk cut off
        json_lines.write_jsonl(speeds, whole)
    return left


def generate(
    folder: Path,
    model_name: str,
    model: PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    batches: list[Batch],
    how: SamplingParams,
) -> None:
    """Answers `batches`, and adds the rows to predictions.jsonl as each is done; the speed goes to generation.jsonl.

    Raises:
        KeyboardInterrupt: with the words that tell how to go on.
    """
    if not batches:
        return
    total = sum(map(len, batches)) * how.samples

    def work(batch: Batch) -> list[Prediction]:
        return [to_record(model_name, reply) for reply in generate_batch(model, tokenizer, batch, how)]

    with resumable.progress(f"{model_name}: generating", total, "reply") as bar:

        def written(rows: list[Prediction], seconds: float) -> None:
            bar.update(len(rows))
            new_tokens = sum(row["new_tokens"] for row in rows)
            speed = {"model": model_name, "replies": len(rows), "new_tokens": new_tokens, "seconds": round(seconds, 3)}
            json_lines.append_jsonl(folder / SPEED_FILE, [speed])

        try:
            resumable.map_batches(folder / FILE, batches, work, written)
        except KeyboardInterrupt as interruption:
            words = f"the finished replies are in {folder / FILE}; run the same command again to go on from there"
            raise KeyboardInterrupt(words) from interruption


def of_prompt(request: GenerationRequest) -> dict[str, Any]:
    """What a row says of the prompt that it answers."""
    return {
        "prompt": request.prompt,
        "history": request.dialogue.history,
        "target_emotion": request.dialogue.target_emotion,
        "reference": request.dialogue.reference,
    }


def to_record(model: str, reply: Completion) -> Prediction:
    request = reply.request
    return {
        "index": request.dialogue.index,
        "sample": reply.sample,
        "model": model,
        **of_prompt(request),
        "response": reply.response,
        "new_tokens": reply.new_tokens,
        "stopped_by_limit": reply.stopped_by_limit,
        "reference_tokens": len(request.reference_ids),
        "reference_logp": round(reply.reference_logp, 4),
    }


def speeds(folder: Path) -> dict[str, dict[str, float]]:
    """`{model: {"replies_per_second", "new_tokens_per_second"}}` over all starts of a run; none where none was kept."""
    totals: dict[str, dict[str, float]] = {}
    for entry in json_lines.read_jsonl(folder / SPEED_FILE, allow_truncated_tail=True):
        of_model = totals.setdefault(entry["model"], dict.fromkeys(("replies", "new_tokens", "seconds"), 0.0))
        for name in of_model:
            of_model[name] += entry[name]
    return {
        model: {f"{name}_per_second": total[name] / total["seconds"] for name in ("replies", "new_tokens")}
        for model, total in totals.items()
        if total["seconds"]
    }


def score_predictions(rows: list[Prediction], scoring: ScoringArguments) -> list[Prediction]:
    """Has replies and references judged; rows in the order of models, prompts and samples."""
    rows = [row for of_model in by_model(rows).values() for row in of_model]
    references = {row["index"]: row["reference"] for row in rows}
    texts = [row["response"] for row in rows] + list(references.values())
    verdicts = list(zip(classify_emotions(texts, scoring), classify_gibberish(texts, scoring), strict=True))
    of_references = dict(zip(references, verdicts[len(rows) :], strict=True))
    complete = []
    for row, (emotion, gibberish) in zip(rows, verdicts, strict=False):
        of_reference = of_references[row["index"]]
        complete.append(
            {name: row[name] for name in GENERATED_FIELDS}
            | {
                "predicted_emotion": emotion.label,
                "emotion_score": round(emotion.score, 6),
                "target_probability": round(emotion.probabilities[row["target_emotion"]], 6),
                "gibberish_label": gibberish.label,
                "gibberish_score": round(gibberish.score, 6),
                "complete": is_complete(row["response"]),
                "reference_emotion": of_reference[0].label,
                "reference_gibberish": of_reference[1].label,
            }
        )
    return complete
