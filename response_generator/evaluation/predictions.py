"""predictions.jsonl: a row a model, prompt and sample. It grows while models speak; judges then complete its rows."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from peft import PeftModel
from tqdm.auto import tqdm
from transformers import PreTrainedTokenizerBase

from response_generator import journal
from response_generator.arguments import ScoringArguments
from response_generator.emotions import EMOTIONS
from response_generator.errors import InputError
from response_generator.evaluation import rewards
from response_generator.generation import Reply, Request, Sampling, answer
from response_generator.scoring import emotions_of, gibberish_of, is_complete

FILE = "predictions.jsonl"
SPEED_FILE = "generation.jsonl"
SHOWN_FAULTS = 10
GENERATED = {
    "index": int,
    "sample": int,
    "model": str,
    "prompt": str,
    "history": list,
    "target_emotion": str,
    "reference": str,
    "response": str,
    "new_tokens": int,
    "stopped_by_limit": bool,
    "reference_tokens": int,
    "reference_logp": float,
}
JUDGED = {
    "predicted_emotion": str,
    "emotion_score": float,
    "target_probability": float,
    "gibberish_label": str,
    "gibberish_score": float,
    "complete": bool,
    "reference_emotion": str,
    "reference_gibberish": str,
}

Prediction = dict[str, Any]
Batch = Sequence[Request]


def key(row: Prediction) -> tuple:
    return row.get("model"), row.get("index"), row.get("sample")


def outstanding(folder: Path, models: Sequence[str], batches: list[Batch], samples: int) -> dict[str, list[Batch]]:
    """The batches that each model has still to answer, after what an earlier start has left in `folder`.

    Raises:
        InputError: when what is there answers other prompts.
    """
    pieces = [(model, batch) for model in models for batch in batches]
    keys = [[(model, r.dialogue.index, s) for r in batch for s in range(samples)] for model, batch in pieces]
    rows, done = journal.taken_up(folder / FILE, keys, key)
    asked = {request.dialogue.index: request for batch in batches for request in batch}
    for row in rows:
        request = asked[row["index"]]
        if (row["prompt"], row["reference"]) != (request.prompt, request.dialogue.reference):
            raise InputError(
                f"{folder / FILE}: answers another prompt in row {row['index']} than dataset and chat_template give "
                f"now: they have changed since; name another output_dir"
            )
    if rows:
        print(f"{folder / FILE}: {len(rows)} replies are there already")
    return {
        model: [batch for (name, batch), is_done in zip(pieces, done, strict=True) if name == model and not is_done]
        for model in models
    }


def generate(
    folder: Path,
    model_name: str,
    model: PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    batches: list[Batch],
    how: Sampling,
) -> None:
    """Answers `batches`, and adds the rows to predictions.jsonl as each is done; the speed goes to generation.jsonl.

    Raises:
        KeyboardInterrupt: with the words that tell how to go on.
    """
    if not batches:
        return
    speeds = journal.read(folder / SPEED_FILE, cut_off=True)
    if speeds:
        how.limit.rows = min(how.limit.rows, speeds[-1]["batch_size"])  # memory ran out before the interruption
    total = sum(map(len, batches)) * how.samples

    def work(batch: Batch) -> list[Prediction]:
        return [row_of(model_name, reply) for reply in answer(model, tokenizer, batch, how)]

    with tqdm(total=total, desc=f"{model_name}: generating", unit="reply", dynamic_ncols=True) as bar:

        def written(rows: list[Prediction], seconds: float) -> None:
            bar.update(len(rows))
            speed = {
                "model": model_name,
                "replies": len(rows),
                "new_tokens": sum(row["new_tokens"] for row in rows),
                "seconds": round(seconds, 3),
                "batch_size": how.limit.rows,
            }
            journal.append(folder / SPEED_FILE, [speed])

        try:
            journal.work_off(folder / FILE, batches, work, written)
        except KeyboardInterrupt as interruption:
            words = f"the finished replies are in {folder / FILE}; run the same command again to go on from there"
            raise KeyboardInterrupt(words) from interruption


def row_of(model: str, reply: Reply) -> Prediction:
    request = reply.request
    return {
        "index": request.dialogue.index,
        "sample": reply.sample,
        "model": model,
        "prompt": request.prompt,
        "history": request.dialogue.history,
        "target_emotion": request.dialogue.target_emotion,
        "reference": request.dialogue.reference,
        "response": reply.response,
        "new_tokens": reply.new_tokens,
        "stopped_by_limit": reply.stopped_by_limit,
        "reference_tokens": len(request.reference_ids),
        "reference_logp": round(reply.reference_logp, 4),
    }


def speeds(folder: Path) -> dict[str, dict[str, float]]:
    """`{model: {"replies_per_second", "new_tokens_per_second"}}` over all starts of a run; none where none was kept."""
    totals: dict[str, dict[str, float]] = {}
    for entry in journal.read(folder / SPEED_FILE, cut_off=True):
        of_model = totals.setdefault(entry["model"], dict.fromkeys(("replies", "new_tokens", "seconds"), 0.0))
        for name in of_model:
            of_model[name] += entry[name]
    return {
        model: {f"{name}_per_second": total[name] / total["seconds"] for name in ("replies", "new_tokens")}
        for model, total in totals.items()
        if total["seconds"]
    }


def by_model(rows: list[Prediction]) -> dict[str, list[Prediction]]:
    """Rows of each model, in the order of prompts and samples; models in the order of their first rows."""
    found: dict[str, list[Prediction]] = {}
    for row in rows:
        found.setdefault(row["model"], []).append(row)
    return {model: sorted(of, key=lambda row: (row["index"], row["sample"])) for model, of in found.items()}


def judged(rows: list[Prediction], scoring: ScoringArguments) -> list[Prediction]:
    """Has replies and references judged; rows in the order of models, prompts and samples."""
    rows = [row for of_model in by_model(rows).values() for row in of_model]
    references = {row["index"]: row["reference"] for row in rows}
    texts = [row["response"] for row in rows] + list(references.values())
    verdicts = list(zip(emotions_of(texts, scoring), gibberish_of(texts, scoring), strict=True))
    of_references = dict(zip(references, verdicts[len(rows) :], strict=True))
    complete = []
    for row, (emotion, gibberish) in zip(rows, verdicts, strict=False):
        of_reference = of_references[row["index"]]
        complete.append(
            {name: row[name] for name in GENERATED}
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


def as_table(rows: list[Prediction]) -> tuple[list[str], list[list[Any]]]:
    """Columns and cells for a tracker; the history, which is no plain value, stands in the prompt."""
    columns = [name for name in rows[0] if name != "history"]
    return columns, [[row[name] for name in columns] for row in rows]


def bring_along(place: Path, folder: Path) -> None:
    """Copies what lies beside a predictions.jsonl into another run's folder: speeds, and rewards of pairs."""
    beside = place if place.is_dir() else place.parent
    for name in (SPEED_FILE, rewards.FILE):
        if (beside / name).is_file():
            shutil.copy(beside / name, folder / name)


def read(place: Path, fields: dict[str, type]) -> list[Prediction]:
    """The rows of a predictions.jsonl, or of the one in a run folder, with every prompt answered by every model.

    Args:
        fields: what every row must hold: GENERATED, or GENERATED | JUDGED.

    Raises:
        InputError: with the lines that are no such rows, or the prompts that a model has not answered.
    """
    file = place / FILE if place.is_dir() else place
    if not file.is_file():
        raise InputError(f"{place}: no such file, and no run folder with a {FILE}")
    rows = journal.read(file)
    if not rows:
        raise InputError(f"{file}: holds no rows")
    faults = [f"{file}, line {line}: {fault}" for line, row in enumerate(rows, 1) if (fault := fault_of(row, fields))]
    if faults:
        raise InputError(*faults[:SHOWN_FAULTS])
    answered: dict[str, set] = {}
    for row in rows:
        answered.setdefault(row["model"], set()).add((row["index"], row["sample"]))
    everything = set.union(*answered.values())
    for model, places in answered.items():
        if places != everything:
            index, sample = min(everything - places)
            raise InputError(
                f"{file}: {model} has not answered row {index}, sample {sample} (and {len(everything - places) - 1} "
                f"more): the run has not come to its end; run it again first"
            )
    if len(everything) * len(answered) != len(rows):
        raise InputError(f"{file}: holds a reply of one model to one prompt and sample twice; remove one")
    prompts = {index for index, _ in everything}
    if len(prompts) * len({sample for _, sample in everything}) != len(everything):
        raise InputError(f"{file}: its prompts have different numbers of replies; the run has not come to its end")
    return rows


def fault_of(row: Prediction, fields: dict[str, type]) -> str | None:
    """What keeps a row from being one of predictions.jsonl."""
    absent = [name for name in fields if name not in row]
    if absent:
        return f"has no {', '.join(absent)}; needed: a file that evaluate.py of this version has written"
    for name, kind in fields.items():
        numbers = (int, float) if kind is float else kind
        if not isinstance(row[name], numbers) or (isinstance(row[name], bool) and kind is not bool):
            return f"{name} is {row[name]!r}; needed: {kind.__name__}"
    if row["target_emotion"] not in EMOTIONS:
        return f"target_emotion is {row['target_emotion']!r}; allowed: {', '.join(EMOTIONS)}"
    return None
