"""Data without labels: preference pairs and dialogues as TRL takes them, through DPO and SFT."""

from pathlib import Path

import pytest
from conftest import CHATML, read_json, read_lines, write_rows
from script_runs import run_here

import fine_tune_dpo
from response_generator import sft

QUESTIONS = ("What color is the sky ?", "Where is the sun ?", "Who are you ?", "Is it late ?")
REPLIES = (("Blue .", "Red ."), ("Up there .", "No idea ."), ("A friend of yours .", "Go ."), ("Not yet .", "Ask me ."))


def make_turns(question: str, reply: str) -> list[dict]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": reply}]


def plain(values: dict, rows: list[dict], folder: Path) -> dict:
    data = {"path": write_rows(folder / "rows.jsonl", rows)}
    samples = {"every_steps": 1, "prompts": 2, "max_new_tokens": 4}
    return values | {"labels": [], "dataset": data, "eval_dataset": None, "sample_replies": samples}


@pytest.fixture
def pairs() -> list[dict]:
    """A row of each form, and one more."""
    conversations = [
        {"chosen": make_turns(question, good), "rejected": make_turns(question, bad)}
        for question, (good, bad) in zip(QUESTIONS, REPLIES, strict=True)
    ]
    (user, good), (_, bad) = (conversations[1][side] for side in ("chosen", "rejected"))
    conversations[1] = {
        "prompt": [{"role": "system", "content": "Be kind ."}, user],
        "chosen": [good],
        "rejected": [bad],
    }
    conversations[2] = {"prompt": QUESTIONS[2], "chosen": f" {REPLIES[2][0]}", "rejected": f" {REPLIES[2][1]}"}
    return conversations


def test_dpo_on_plain_pairs(tiny, tmp_path, pairs, capsys):
    values = plain(tiny.dpo(tmp_path / "run"), pairs, tmp_path)
    assert run_here(fine_tune_dpo.main, values, tmp_path, "--dry_run") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "pairs read 4, used 4, dropped 0" in said
    assert "2 pairs have no prompt of their own" in said
    assert "1 of 4 pairs are plain text" in said
    assert "emotion" not in said
    assert not (tmp_path / "run").exists()
    assert run_here(fine_tune_dpo.main, values, tmp_path) == 0
    metrics = read_json(tmp_path / "run" / "metrics.json")
    assert metrics["initial_loss"] == pytest.approx(0.6931, abs=1e-4)
    samples = read_lines(tmp_path / "run" / "samples.jsonl")
    assert {row["target_emotion"] for row in samples} == {None}
    assert samples[0]["prompt"] == [{"role": "user", "content": QUESTIONS[0]}]


def test_sft_on_plain_messages(tiny, tmp_path):
    rows = [{"messages": make_turns(question, good)} for question, (good, _) in zip(QUESTIONS, REPLIES, strict=True)]
    values = plain(tiny.sft(tmp_path / "run"), rows, tmp_path)
    assert run_here(sft.main, values, tmp_path) == 0
    assert read_json(tmp_path / "run" / "metrics.json")["steps"] == 4
    template = (tmp_path / "run" / "adapter" / "chat_template.jinja").read_text(encoding="utf-8")
    assert template == Path(CHATML).read_text(encoding="utf-8")
