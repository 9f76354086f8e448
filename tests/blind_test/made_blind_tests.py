"""Made runs of two models, and blind tests of them, without a model."""

import json
import sys
from pathlib import Path

from conftest import read_args, read_json, write_rows
from made_reports import drop_scores
from test_metrics import row
from tiny_models import EMOTION_LABELS

from response_generator.blind_test import __main__ as blind_test
from response_generator.blind_test.answers import RaterAnswers
from response_generator.blind_test.compared_replies import ComparedReplies, find_place
from response_generator.blind_test.sheet import Sheet
from response_generator.cli import command_line
from response_generator.evaluation.predictions_file import TARGET_FIELDS
from response_generator.labels import Labels

FIRST, SECOND = "baseline", "adapter"


def made_rows(prompts: int = 21, samples: int = 1, targets=EMOTION_LABELS.names) -> list[dict]:
    """Row n has the n-th of the targets in turn. The classifier finds it in all replies of the second model, and in
    every other one of the first model."""
    return [
        row(
            index,
            targets[index % len(targets)],
            targets[(index + (model == FIRST and index % 2)) % len(targets)],
            sample,
            model=model,
            prompt="text",
            emotion_at_words=[targets[(index + (model == FIRST and index % 2)) % len(targets)]],
            gibberish_score=0.9,
            history=[{"role": "user", "content": {"emotion": "neutral", "dialog": f"Dialogue {index} ."}}],
            response=f"{'One' if model == FIRST else 'Two'} says {index} , {sample} .",
        )
        for model in (FIRST, SECOND)
        for index in range(prompts)
        for sample in range(samples)
    ]


def to_plain_rows(rows: list[dict]) -> list[dict]:
    """As a run without labels and classifiers has them."""
    history = [{"role": "user", "content": "Is it raining ?"}]
    return [each | {"history": history} for each in drop_scores(rows, *TARGET_FIELDS)]


def write_run(folder: Path, rows: list[dict], **changes) -> Path:
    """A finished run folder with these rows.

    Args:
        changes: of the args of the demo's evaluation.
    """
    folder.mkdir()
    values = read_args("demo/evaluate_arg.json") | {"output_dir": str(folder), "best_of": None}
    values["scoring"] = values["scoring"] | {"fit_model": None}
    values |= changes
    (folder / "args.json").write_text(json.dumps(values | {"$schema": None}), encoding="utf-8")
    (folder / "metrics.json").write_text("{}", encoding="utf-8")
    write_rows(folder / "predictions.jsonl", rows)
    return folder


def compare_rows(rows: list[dict], labels: Labels = EMOTION_LABELS) -> ComparedReplies:
    by_model: dict[str, dict] = {}
    for each in rows:
        by_model.setdefault(each["model"], {})[find_place(each)] = each
    return ComparedReplies(labels, by_model)


def run_blind_test(monkeypatch, *options) -> int:
    """The exit status."""
    monkeypatch.setattr(sys, "argv", ["blind_test", *map(str, options)])
    return command_line.run_main(blind_test.main)


def answer_pairs(sheet: Sheet, answers: list[tuple], rater: str = "ann") -> RaterAnswers:
    """A rater's answers.

    Args:
        answers: of each pair the label of the first model's reply, that of the second model's, and the preferred model
            or another answer; None: not answered.
    """
    found = []
    for pair, (first, second, preferred) in zip(sheet.pairs, answers, strict=True):
        labels = dict(zip(sheet.replies.models, (first, second), strict=True))
        sides = dict(zip(pair.models, "AB", strict=True))
        answer = {f"label_{side}": labels[model] for model, side in sides.items()}
        answer["preference"] = sides.get(preferred, preferred)
        found.append({name: value for name, value in answer.items() if value is not None})
    return RaterAnswers(rater, found)


def write_answers(file: Path, folder: Path, rater: str = "ann", **changes) -> Path:
    """Answers to the sheet of a folder, "neutral" and "A" throughout."""
    key = read_json(folder / "key.json")
    answer = {"label_A": "neutral", "label_B": "neutral", "preference": "A"}
    saved = {"sheet": key["sheet"], "rater": rater, "answers": [answer] * len(key["pairs"])} | changes
    file.write_text(json.dumps(saved), encoding="utf-8")
    return file
