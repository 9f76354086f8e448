"""What is found out about a server before its first reply."""

import re

import pytest
from conftest import read_json, read_lines
from server_runs import GREEDY, evaluate_by_server, evaluated_here, wait_briefly

from response_generator.constants import PREDICTIONS_FILE


@pytest.fixture
def values(tiny, model_server, tmp_path, monkeypatch) -> dict:
    wait_briefly(monkeypatch)
    return evaluate_by_server(tiny, tmp_path, model_server.url)


def change_server(values: dict, **changes) -> dict:
    return values | {"server": values["server"] | changes}


def assert_refused(values: dict, folder, capsys, *messages: str, options=()) -> None:
    """Checks that the run ends with these messages and leaves nothing behind."""
    assert evaluated_here(values, folder / "run", *options) == 2
    said = capsys.readouterr().err
    for message in messages:
        assert message in said
    assert not (folder / "run").exists()


def test_a_model_that_is_not_served(values, tmp_path, capsys):
    wrong = change_server(values, model="sfd")
    message = "server.model: got 'sfd'; did you mean 'sft'? the server serves base, sft, dpo"
    assert_refused(wrong, tmp_path, capsys, message)
    assert_refused(wrong, tmp_path, capsys, message, options=["--dry_run"])


def test_no_server(values, model_server, tmp_path, capsys):
    model_server.stop()
    assert_refused(values, tmp_path, capsys, f"server.url: {model_server.url}: no answer", "Connection refused")


def test_a_key_is_missing(values, model_server, tmp_path, capsys):
    model_server.key = "secret"
    message = "HTTP status 401: Unauthorized; server.api_key_env names the variable with the key"
    assert_refused(values, tmp_path, capsys, message)


def test_a_context_that_is_too_short(values, model_server, tmp_path, capsys):
    model_server.context = 40
    assert_refused(values, tmp_path, capsys, "the context of the server holds 40 tokens; 6 of 6 prompts need more")


def test_another_tokenizer(values, model_server, tmp_path, capsys):
    model_server.shift = 1
    assert_refused(values, tmp_path, capsys, "by /tokenize, the server has other tokens than the tokenizer of this run")


def test_without_tokenize_tokens_are_counted(values, model_server, tmp_path, capsys):
    model_server.has_tokenize = False
    assert evaluated_here(values, tmp_path / "run", "--dry_run") == 0
    assert "the same tokens by the number of tokens" in capsys.readouterr().err
    model_server.counts_wrongly = True
    assert_refused(values, tmp_path, capsys, "by the number of tokens, the server has other tokens")


@pytest.mark.parametrize("has_logprobs", [True, False])
def test_an_adapter_that_is_not_applied(has_logprobs, values, model_server, tmp_path, capsys):
    model_server.applies_adapters = False
    model_server.has_logprobs = model_server.has_echo = has_logprobs
    message = "server.baseline_model: base and sft write the same replies"
    assert_refused(values, tmp_path, capsys, message, "an adapter is not applied")


def test_an_adapter_that_is_not_applied_beside_the_base_that_the_server_names(values, model_server, tmp_path, capsys):
    """Without a baseline in the run."""
    model_server.applies_adapters = False
    alone = change_server(values, baseline_model=None) | {"baseline_adapter": None}
    for model_server.lists_parents in (True, False):
        assert_refused(alone, tmp_path, capsys, "server.model: sft and base write the same replies")


def test_a_server_without_token_ids(values, model_server, tmp_path, capsys):
    model_server.returns_ids = False
    assert_refused(values, tmp_path, capsys, "returns no token_ids of its replies")


@pytest.mark.parametrize(("key", "value"), [("num_beams", 2), ("min_p", 0.01)])
def test_settings_that_a_server_does_not_know(key, value, values, tmp_path, capsys):
    wrong = values | {"generation": values["generation"] | {key: value}}
    assert_refused(wrong, tmp_path, capsys, f'generation.{key}: cannot be used with generation_method "server"')


def test_a_dry_run_writes_nothing_and_asks_for_no_reply(values, model_server, tmp_path, capsys):
    assert evaluated_here(values, tmp_path / "run", "--dry_run") == 0
    assert "version of the test: base (folder/base), sft (folder/sft)" in capsys.readouterr().err
    assert model_server.asked == [] and not (tmp_path / "run").exists()


def test_what_was_found_is_in_the_environment_and_in_the_report(values, model_server, tmp_path):
    assert evaluated_here(change_server(values, send_seed=True), tmp_path / "run") == 0
    found = read_json(tmp_path / "run" / "environment.json")
    assert found["generation_method"] == "server"
    facts = found["server"]
    assert facts["models"] == {"base": "folder/base", "sft": "folder/sft"}
    assert (facts["context"], facts["same_tokens_by"], facts["logprobs"]) == (512, "/tokenize", "prompt_logprobs")
    assert facts["seed"] == "kept"
    assert facts["adapters_applied"]["base beside sft"].startswith("4 of 4 greedy replies differ, log-prob")
    for name in ("report.html", "summary.md"):
        assert "A server writes the replies, version of the test" in (tmp_path / "run" / name).read_text("utf-8")


def test_a_seed_that_the_server_does_not_keep(values, model_server, tmp_path):
    model_server.keeps_seed = False
    assert evaluated_here(change_server(values, send_seed=True), tmp_path / "run") == 0
    assert "not kept" in read_json(tmp_path / "run" / "environment.json")["server"]["seed"]


def test_log_probabilities_by_echo_are_the_same(values, model_server, tmp_path):
    greedy = values | {"generation": GREEDY}
    assert evaluated_here(greedy, tmp_path / "one") == 0
    model_server.has_logprobs = False
    assert evaluated_here(greedy, tmp_path / "other") == 0
    assert read_json(tmp_path / "other" / "environment.json")["server"]["logprobs"] == "echo"
    one, other = (
        [row["gold_logp"] for row in read_lines(tmp_path / name / PREDICTIONS_FILE)] for name in ("one", "other")
    )
    assert one == pytest.approx(other, abs=1e-3)


def test_without_log_probabilities_their_metrics_are_left_out(values, model_server, tiny, tmp_path):
    model_server.has_logprobs = model_server.has_echo = False
    pairs = {"dataset": {"path": str(tiny.folder / "pairs.jsonl"), "limit": 4}, "beta": 0.1}
    assert evaluated_here(values | {"heldout_pairs": pairs}, tmp_path / "run") == 0
    metrics = read_json(tmp_path / "run" / "metrics.json")
    assert "adapter/mean_new_tokens" in metrics
    assert not [name for name in metrics if "gold_perplexity" in name or "preference" in name]
    assert all("gold_logp" not in row for row in read_lines(tmp_path / "run" / PREDICTIONS_FILE))
    report = (tmp_path / "run" / "report.html").read_text("utf-8")
    assert "There are no log-probabilities of given tokens from the server: the perplexity of the gold" in report


def test_the_distance_from_the_model_here_is_noted(values, tmp_path):
    """Both compute in float32, so it is next to nothing."""
    assert evaluated_here(change_server(values, compare_with_local=True), tmp_path / "run") == 0
    noted = read_json(tmp_path / "run" / "environment.json")["server"]["local_model"]
    found = re.search(
        r"of 4 texts of ([\d.]+) nats .* \(weights in float32\) by [+-]([\d.]+) .* at most ([\d.]+)$", noted
    )
    average, mean, most = map(float, found.groups())
    assert average > 10 and mean <= most < 0.01
    assert noted in (tmp_path / "run" / "report.html").read_text("utf-8")


def test_log_probabilities_that_are_not_wanted_are_not_asked_for(values, model_server, tmp_path):
    assert evaluated_here(change_server(values, logprobs=False), tmp_path / "run") == 0
    assert read_json(tmp_path / "run" / "environment.json")["server"]["logprobs"] is None
    assert model_server.asked and not any({"prompt_logprobs", "echo"} & body.keys() for body in model_server.asked)
