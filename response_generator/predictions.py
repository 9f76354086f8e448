"""The rows of predictions.jsonl: one a prompt and model."""

import json
import os
from pathlib import Path
from typing import Any

from response_generator.arguments import ScoringArguments
from response_generator.generation import Reply
from response_generator.scoring import emotions_of, gibberish_of, is_complete


def scored(model: str, replies: list[Reply], scoring: ScoringArguments) -> list[dict[str, Any]]:
    """Has the replies of one model judged, and puts replies and verdicts together."""
    texts = [reply.response for reply in replies]
    verdicts = zip(replies, emotions_of(texts, scoring), gibberish_of(texts, scoring), strict=True)
    return [
        {
            "index": reply.dialogue.index,
            "model": model,
            "prompt": reply.prompt,
            "target_emotion": reply.dialogue.target_emotion,
            "reference": reply.dialogue.reference,
            "response": reply.response,
            "new_tokens": reply.new_tokens,
            "predicted_emotion": emotion.label,
            "emotion_score": round(emotion.score, 6),
            "gibberish_label": gibberish.label,
            "gibberish_score": round(gibberish.score, 6),
            "complete": is_complete(reply.response),
        }
        for reply, emotion, gibberish in verdicts
    ]


def write(predictions: list[dict[str, Any]], file: Path) -> None:
    """Whole or not at all."""
    part = file.with_name(file.name + ".part")
    with open(part, "w", encoding="utf-8") as lines:
        lines.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in predictions)
    os.replace(part, file)
