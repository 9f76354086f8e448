"""`python -m response_generator.preferences` as a whole, on tiny random models."""

import shutil
import signal
import sys

import pytest
from conftest import change_args, read_json, read_lines, write_rows
from script_runs import run_here, run_script, start_script, start_two_processes
from test_interruptions import once
from tiny_models import EMOTION_LABELS, demo_rows, write_tiny_classifier

import fine_tune_dpo
from response_generator.cli import command_line
from response_generator.config.dataset_schema import DatasetArguments
from response_generator.config.scoring_schema import RewardArguments
from response_generator.data.reading import read_pairs
from response_generator.preferences import __main__ as preferences
from response_generator.scoring.classifiers import LabelProbs
from response_generator.scoring.reward import compute_reward

SCRIPT = "response_generator/preferences/__main__.py"
PROMPTS = 24
GOOD_SCORE = 7.5  # about a fifth of the candidates of the random model have more


@pytest.fixture(scope="module")
def building(tiny, tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp("dialogues")
    dialogues = write_rows(folder / "dialogues.jsonl", demo_rows("dialogues_test", PROMPTS))
    return tiny.preferences(folder, dataset={"path": dialogues})


@pytest.fixture(scope="module")
def built(building, tmp_path_factory):
    """A finished run: `(run folder, completed process)`."""
    folder = tmp_path_factory.mktemp("built")
    done = run_script(SCRIPT, building | {"output_dir": str(folder / "run")}, folder)
    assert done.returncode == 0, done.stderr
    return folder / "run", done


@pytest.fixture(scope="module", params=["best_worst", "best_random_failing with the fit", "diverse"])
def selected(request, building, built, tiny, tmp_path_factory):
    """The args of a run with a selection, and its run folder, finished: `(args, run folder)`."""
    selection, _, has_fit = request.param.partition(" with ")
    if selection == "best_worst":
        return building, built[0]
    values = building | {"pair_selection": selection}
    if selection == "diverse":
        values["filters"] = {"min_margin": 0.2, "min_chosen_score": GOOD_SCORE}
    if has_fit:
        values["scoring"] = building["scoring"] | {"fit_model": tiny.base}
        values["reward"] = {"fit_weight": 2.0}
    folder = tmp_path_factory.mktemp("selected")
    done = run_script(SCRIPT, values | {"output_dir": str(folder / "run")}, folder)
    assert done.returncode == 0, done.stderr
    return values, folder / "run"


def describe(place, *options: str) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["preferences", "--describe", str(place), *options])
        return command_line.run_main(preferences.main)


def test_it_leaves_what_the_contract_says(built, tiny):
    run, done = built
    for name in ("args.json", "environment.json", "metrics.json", "preferences.jsonl", "report.html", "README.md"):
        assert (run / name).stat().st_size, name
    for name in ("margins", "scores", "lengths"):
        assert (run / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    title = f"<title>Preference pairs: {run.parent.name}/{run.name} (adapter {tiny.folder.name})</title>"
    assert title in (run / "report.html").read_text(encoding="utf-8")
    assert f"done: {len(read_lines(run / 'preferences.jsonl'))} pairs are in" in done.stdout
    assert "accepted=" in done.stderr
    assert "Traceback" not in done.stderr


def test_pairs_and_failures_cover_all_prompts(built, building):
    run, _ = built
    rows, failed, metrics = read_lines(run / "preferences.jsonl"), read_lines(run / "failed_prompts.jsonl"), {}
    metrics = read_json(run / "metrics.json")
    assert rows and failed  # or the args of this test prove nothing
    assert sorted(row["index"] for row in rows + failed) == list(range(PROMPTS))
    assert (metrics["accepted_prompts"], metrics["failed_prompts"]) == (len(rows), len(failed))
    assert metrics["pairs"] == len(rows)
    assert all(row["attempts"] == building["max_attempts"] == sum(row["failures"].values()) for row in failed)
    assert max(row["attempts"] for row in rows) > 1  # some were tried again
    tried = sum(row["attempts"] for row in rows + failed)
    assert (metrics["attempts"], metrics["candidates"]) == (tried, 3 * tried)


def test_scores_are_the_rewards_of_the_labels(built):
    run, _ = built
    for row in read_lines(run / "preferences.jsonl"):
        assert row["chosen_score"] - row["rejected_score"] >= 0.2
        assert row["chosen_gibberish_label"] == "clean"
        for side in ("chosen", "rejected"):
            content = row[side][0]["content"]
            emotion = LabelProbs({row[f"{side}_emotion"]: row[f"{side}_emotion_score"]})
            gibberish = LabelProbs({row[f"{side}_gibberish_label"]: row[f"{side}_gibberish_score"]})
            reward = compute_reward(content["dialog"], emotion, gibberish, content["emotion"], RewardArguments(), {})
            assert row[f"{side}_score"] == pytest.approx(reward, abs=1e-3)  # labels are rounded to 4 digits


def test_training_takes_the_pairs_and_filters_them(built, tiny, tmp_path, capsys):
    run, _ = built
    pairs, skipped = read_pairs(DatasetArguments(path=str(run / "preferences.jsonl")), EMOTION_LABELS)
    margins = sorted(pair.margin for pair in pairs)
    filters = {"min_margin": margins[2], "chosen_gibberish_labels": ["clean"]}
    values = tiny.dpo(tmp_path / "dpo", dataset={"path": str(run / "preferences.jsonl"), "filters": filters})
    values |= {"eval_dataset": None, "dpo": values["dpo"] | {"max_steps": 1}}
    assert run_here(fine_tune_dpo.main, values, tmp_path) == 0
    said = capsys.readouterr().out
    assert "dataset: dropped 2 pair(s) by filters.min_margin" in said
    assert f"pairs read {len(pairs) - 2}" in said
    metrics = read_json(tmp_path / "dpo" / "metrics.json")
    assert (metrics["dataset/filtered"], metrics["dataset/filtered/min_margin"]) == (2, 2)
    assert metrics["dataset/filtered/chosen_gibberish_labels"] == 0


def test_filters_of_pairs_without_labels_use_the_classifiers(tiny, tmp_path, capsys):
    filters = {"chosen_gibberish_labels": ["clean"], "chosen_has_target_emotion": False}
    values = tiny.dpo(tmp_path / "dpo", eval_dataset=None)
    values["dataset"]["filters"] = filters
    assert run_here(fine_tune_dpo.main, values, tmp_path, "--dry_run") == 2
    assert "which filters.chosen_gibberish_labels needs" in capsys.readouterr().err
    scoring = {name: str(tiny.folder / name.removesuffix("_model")) for name in ("emotion_model", "gibberish_model")}
    assert run_here(fine_tune_dpo.main, values | {"scoring": scoring}, tmp_path, "--dry_run") in (0, 2)
    output = capsys.readouterr()
    assert "by filters.chosen_gibberish_labels" in output.out or "no pair passes" in output.err


def sampled(run) -> int:
    return sum(file.read_bytes().count(b"\n") for file in run.glob("candidates/*.jsonl"))


def test_a_selection_and_the_fit_make_the_pairs(selected):
    values, run = selected
    rows = read_lines(run / "preferences.jsonl")
    tried = [row for file in run.glob("candidates/*.jsonl") for row in read_lines(file)]
    attempts = {row["index"]: each for row in tried for each in row["attempts"] if each["failure"] is None}
    weight = values.get("reward", {}).get("fit_weight", 0.0)
    assert len(rows) > 2  # or this test proves nothing
    for row in rows:
        candidates = {each["text"]: each for each in attempts[row["index"]]["candidates"]}
        for side in ("chosen", "rejected"):
            content = row[side][0]["content"]
            candidate = candidates[content["dialog"]]
            assert row.get(f"{side}_fit") == candidate["fit"] and (candidate["fit"] is None) == (not weight)
            emotion = LabelProbs({row[f"{side}_emotion"]: row[f"{side}_emotion_score"]})
            gibberish = LabelProbs({row[f"{side}_gibberish_label"]: row[f"{side}_gibberish_score"]})
            reward = compute_reward(content["dialog"], emotion, gibberish, content["emotion"], RewardArguments(), {})
            assert row[f"{side}_score"] == pytest.approx(reward + weight * (candidate["fit"] or 0), abs=2e-3)
        if values.get("pair_selection") == "best_random_failing":
            assert row["rejected_emotion"] != row["rejected"][0]["content"]["emotion"]
        if values.get("pair_selection") == "diverse":
            assert row["chosen_score"] >= GOOD_SCORE > row["rejected_score"]
    metrics = read_json(run / "metrics.json")
    assert ("chosen_fit/mean" in metrics) == bool(weight)


def test_killed_twice_it_ends_in_the_same_bytes(selected, tmp_path):
    (building, expected), run = selected, tmp_path / "run"
    seen = 0
    for _ in range(2):
        process = start_script(SCRIPT, building | {"output_dir": str(run)}, tmp_path)
        once(lambda before=seen: sampled(run) > before, process)
        process.kill()
        assert process.wait() == -signal.SIGKILL
        seen = sampled(run)
    assert not (run / "preferences.jsonl").exists()
    done = run_script(SCRIPT, building | {"output_dir": str(run)}, tmp_path)
    assert done.returncode == 0, done.stderr
    for name in ("preferences.jsonl", "failed_prompts.jsonl", "metrics.json", "margins.png"):
        assert (run / name).read_bytes() == (expected / name).read_bytes(), name


def test_two_processes_interrupted_and_resumed_write_the_pairs_of_one(selected, tmp_path):
    (building, finished), run = selected, tmp_path / "run"
    processes = start_two_processes(SCRIPT, building | {"output_dir": str(run)}, tmp_path)
    once(lambda: sampled(run) >= 4, processes[0])
    for process in processes:
        process.send_signal(signal.SIGINT)
    assert [process.wait() for process in processes] == [130, 130]
    assert "run the same command again to continue" in processes[0].read_stderr()
    processes = start_two_processes(SCRIPT, building | {"output_dir": str(run)}, tmp_path)
    assert [process.wait() for process in processes] == [0, 0], processes[0].read_stderr()
    rows, expected = (read_lines(folder / "preferences.jsonl") for folder in (run, finished))
    texts = [
        [(row["index"], row["chosen"], row["rejected"], row["attempts"]) for row in each] for each in (rows, expected)
    ]
    assert texts[0] == texts[1]


def test_changed_data_are_not_mixed(built, building, tmp_path, capsys):
    run, data = tmp_path / "run", tmp_path / "rows.jsonl"
    values = building | {"output_dir": str(run), "dataset": {"path": write_rows(data, demo_rows("dialogues_test", 8))}}
    process = start_script(SCRIPT, values, tmp_path)
    once(lambda: sampled(run) > 0, process)
    process.kill()
    process.wait()
    write_rows(data, demo_rows("dialogues_train", 8))
    assert run_here(preferences.main, values, tmp_path) == 2
    assert "give other prompts than when this run was started" in capsys.readouterr().err


def test_options_all_pairs_gold_and_windows(building, tiny, tmp_path):
    changes = {
        "pair_selection": "all",
        "gold_as_chosen": True,
        "windows": "all",
        "filters": {"max_pairs_per_prompt": 2},
    }
    dialogues = demo_rows("dialogues_test", 4)
    changes["dataset"] = {"path": write_rows(tmp_path / "rows.jsonl", dialogues)}
    assert run_here(preferences.main, building | changes | {"output_dir": str(tmp_path / "run")}, tmp_path) == 0
    rows = read_lines(tmp_path / "run" / "preferences.jsonl")
    replies = [turn["content"] for row in dialogues for turn in row["prompt"] if turn["role"] == "assistant"]
    assert {row["index"] for row in rows} == set(range(len(replies)))
    assert all(row["chosen"][0]["content"] == replies[row["index"]] for row in rows)
    assert max([row["index"] for row in rows].count(index) for index in range(len(replies))) == 2


def test_a_finished_run_and_a_dry_run(built, building, tiny, tmp_path, capsys):
    assert run_here(preferences.main, building | {"output_dir": str(built[0])}, tmp_path) == 0
    out = capsys.readouterr().out
    assert "is finished and is kept: see preferences.jsonl" in out and "push_to_hub" not in out
    shutil.copytree(built[0], tmp_path / "uploaded")
    changes = {"output_dir": str(tmp_path / "uploaded"), "push_to_hub": {"repo_id": "me/pairs", "private": True}}
    change_args(tmp_path / "uploaded", **changes)
    assert run_here(preferences.main, building | changes, tmp_path) == 0
    assert "push_to_hub: the preference data was not uploaded; to upload it yourself: " in capsys.readouterr().out
    assert run_here(preferences.main, building | {"output_dir": str(tmp_path / "dry")}, tmp_path, "--dry_run") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "72 candidates of up to 8 new tokens if every first attempt gives a pair, at most 360" in said
    assert "dialogues" not in said
    fit = {"scoring": building["scoring"] | {"fit_model": tiny.base}, "reward": {"fit_weight": 2.0}}
    values = building | fit | {"output_dir": str(tmp_path / "dry")}
    assert run_here(preferences.main, values, tmp_path, "--dry_run") == 0
    assert "may still pass the filters: each is read in 8 dialogues" in " ".join(capsys.readouterr().out.split())
    assert not (tmp_path / "dry").exists()


REFUSED = {
    "a classifier without the label of the reward": (
        {"gibberish_labels": ("fine", "noise")},
        "its labels are fine, noise; the reward needs 'clean'",
    ),
    "a filter on an unknown label": (
        {"filters": {"chosen_gibberish_labels": ["tidy"]}},
        "filters.chosen_gibberish_labels: got tidy; allowed: the labels of",
    ),
    "short dialogues": (
        {"keep_short_dialogues": False, "history_turns": 5},
        "fewer than history_turns (5); set keep_short_dialogues: true",
    ),
    "gold replies to other targets": (
        {"target_emotions": "balanced", "gold_as_chosen": True},
        "gold_as_chosen must be false",
    ),
    "a missing file": ({"dataset": {"path": "./none.jsonl"}}, "none.jsonl: no such file"),
    "too few other dialogues": (
        {"scoring": {"fit_model": "BASE", "fit_dialogues": 24}, "reward": {"fit_weight": 1.0}},
        "scoring.fit_dialogues: got 24; the data has 24 dialogues, and one of them only 23 others",
    ),
    "a classifier in place of a language model": (
        {"scoring": {"fit_model": "EMOTION"}, "reward": {"fit_weight": 1.0}},
        "scoring.fit_model: ",
    ),
    "an unknown filter": ({"filters": {"margin": 4}}, "filters.margin: unknown key"),
    "no token for the upload": ({"push_to_hub": {"repo_id": "me/pairs"}}, "HF_TOKEN is not set"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_built_is_refused_and_nothing_written(case, tiny, building, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    changes, words = REFUSED[case]
    changes = dict(changes)
    if "fit_model" in changes.get("scoring", {}):
        name = {"BASE": "base", "EMOTION": "emotion"}[changes["scoring"]["fit_model"]]
        changes["scoring"] = building["scoring"] | changes["scoring"] | {"fit_model": str(tiny.folder / name)}
    labels = changes.pop("gibberish_labels", None)
    if labels:
        write_tiny_classifier(tmp_path / "other", tiny.folder / "base", labels)
        changes["scoring"] = building["scoring"] | {"gibberish_model": str(tmp_path / "other")}
    assert run_here(preferences.main, building | {"output_dir": str(tmp_path / "run")} | changes, tmp_path) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_prompts_without_any_pair_end_with_the_reason(building, tmp_path, capsys):
    values = building | {"output_dir": str(tmp_path / "run"), "filters": {"min_margin": 1000.0}, "max_attempts": 2}
    assert run_here(preferences.main, values, tmp_path, "--set", "dataset.limit=3") == 1
    assert "no prompt has a pair that passes the filters" in capsys.readouterr().err
    failed = read_lines(tmp_path / "run" / "failed_prompts.jsonl")
    assert [row["failures"] for row in failed] == [{"min_margin": 2}] * 3


def test_describing_a_run(built, tmp_path, capsys):
    run, _ = built
    output = tmp_path / "described"
    assert describe(run / "preferences.jsonl", "--set", f"output_dir={output}") == 0
    described, metrics = read_json(output / "metrics.json"), read_json(run / "metrics.json")
    assert described == {key: metrics[key] for key in described}
    assert (output / "margins.png").is_file()
    title = f"<title>Preference pairs: {tmp_path.name}/described (data preferences.jsonl)</title>"
    assert title in (output / "report.html").read_text(encoding="utf-8")
    assert "chosen_score - rejected_score" in capsys.readouterr().out
    assert describe(run / "preferences.jsonl", "--set", f"output_dir={output}") == 0  # again


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"chosen_score": "high"}, "chosen_score is text; needed: a number"),
        ({"rejected_score": float("nan")}, "rejected_score: got nan; allowed: a finite number"),
        ({"chosen": ""}, "chosen is empty"),
        ({"chosen_score": None}, "row 0: has no chosen_score and rejected_score, as other rows have"),
    ],
)
def test_bad_pairs_are_refused(row, words, tmp_path, capsys):
    good = {"prompt": "Hello", "chosen": "Hi .", "rejected": "No .", "chosen_score": 2.0, "rejected_score": 1.0}
    file = write_rows(tmp_path / "pairs.jsonl", [good | row, good])
    assert describe(file, "--set", f"output_dir={tmp_path / 'out'}") == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_wrong_options_of_a_description(tmp_path, capsys):
    assert describe("./none.jsonl", "--set", "dataset.splt=test") == 2
    said = capsys.readouterr().err
    assert 'dataset.splt: unknown key; did you mean "split"?' in said
    assert describe(tmp_path / "none.jsonl") == 2
    assert "no such file" in capsys.readouterr().err
    file = write_rows(tmp_path / "empty.jsonl", [])
    assert describe(file) == 2
    assert "holds no rows" in capsys.readouterr().err


def test_filters_of_a_description(tmp_path, capsys):
    rows = [
        {"prompt": f"Hello {number}", "chosen": "Hi .", "rejected": "No .", "chosen_score": number, "rejected_score": 0}
        for number in range(4)
    ]
    file = write_rows(tmp_path / "pairs.jsonl", rows)
    assert describe(file, "--set", f"output_dir={tmp_path / 'out'}", "--set", "dataset.filters.min_margin=2") == 0
    metrics = read_json(tmp_path / "out" / "metrics.json")
    assert (metrics["pairs"], metrics["dataset/filtered/min_margin"]) == (2, 2)
