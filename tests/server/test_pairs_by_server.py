"""Preference pairs from candidates of a server."""

from conftest import read_json, read_lines
from server_runs import built_here, pairs_by_server

from response_generator.constants import SIDES
from response_generator.preferences import candidate_scorer


def list_prompts(model_server) -> list[tuple[int, ...]]:
    """The prompts of which candidates were asked for, but not those of the probe."""
    return [tuple(body["prompt"]) for body in model_server.asked if body.get("n", 1) > 1]


def test_pairs_come_from_candidates_of_the_server(tiny, model_server, tmp_path):
    assert built_here(pairs_by_server(tiny, tmp_path, model_server.url), tmp_path / "run") == 0
    pairs = read_lines(tmp_path / "run" / "preferences.jsonl")
    rounds = sorted((tmp_path / "run" / "candidates").iterdir())
    assert [file.name for file in rounds] == [f"round-{number}.jsonl" for number in range(1, len(rounds) + 1)]
    tried = [each for file in rounds for row in read_lines(file) for each in row["attempts"]]
    texts = {candidate["text"] for each in tried for candidate in each.get("candidates", [])}
    assert pairs and all(pair[side][0]["content"]["dialog"] in texts for pair in pairs for side in SIDES)
    assert all(pair["chosen_score"] > pair["rejected_score"] for pair in pairs)
    assert read_json(tmp_path / "run" / "environment.json")["server"]["models"] == {"sft": "folder/sft"}
    assert "A server writes the replies" in (tmp_path / "run" / "report.html").read_text("utf-8")


def test_candidates_that_were_not_scored_are_not_asked_for_again(tiny, model_server, tmp_path, monkeypatch, capsys):
    """The run is stopped while the first candidates are scored: the server has written them."""
    values = pairs_by_server(tiny, tmp_path, model_server.url, max_attempts=1, filters={})  # replies are random
    with monkeypatch.context() as patch:

        def stop(*_) -> None:
            raise KeyboardInterrupt

        patch.setattr(candidate_scorer.CandidateScorer, "score", stop)
        assert built_here(values, tmp_path / "run") == 130
    assert "the finished batches are in" in capsys.readouterr().err
    written = read_lines(tmp_path / "run" / "candidates" / "round-1-replies.jsonl")
    assert written and not (tmp_path / "run" / "candidates" / "round-1.jsonl").read_text("utf-8")
    model_server.asked.clear()
    assert built_here(values, tmp_path / "run") == 0
    rows = {row["index"]: row["attempts"][0] for row in read_lines(tmp_path / "run" / "candidates" / "round-1.jsonl")}
    assert len(rows) == 6
    for row in written:
        attempt = rows[row["index"]]
        kept = attempt.get("texts") or [each["text"] for each in attempt["candidates"]]
        assert kept == [text for text in row["texts"] if text]
    assert len(list_prompts(model_server)) == 6 - len(written)


def test_a_dry_run_asks_for_no_reply(tiny, model_server, tmp_path, capsys):
    assert built_here(pairs_by_server(tiny, tmp_path, model_server.url), tmp_path / "run", "--dry_run") == 0
    assert "sft (folder/sft)" in capsys.readouterr().err
    assert model_server.asked == [] and not (tmp_path / "run").exists()


def test_a_baseline_model_is_no_key_of_the_builder(tiny, model_server, tmp_path, capsys):
    values = pairs_by_server(tiny, tmp_path, model_server.url)
    values["server"]["baseline_model"] = "base"
    assert built_here(values, tmp_path / "run") == 2
    assert "server.baseline_model: unknown key" in capsys.readouterr().err
