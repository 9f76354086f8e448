"""evaluate.py as a user runs it, on the tiny models: killed, split over processes, judged again, refused."""

import json
import re
import shutil
import signal
import subprocess
import sys

import pytest
from conftest import ROOT, demo_rows, read_json, read_lines, run_here, run_script, script_environment, write_rows
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score
from test_interruptions import once
from test_processes import ACCELERATE, TORCHRUN

import evaluate
from response_generator import command_line
from response_generator.batch_limit import BatchLimit
from response_generator.errors import InputError
from response_generator.evaluation import predictions
from response_generator.generation import Sampling

ROWS = 24  # prompts; two models, two samples: 96 replies in 12 batches


@pytest.fixture(scope="module")
def values(tiny, trained, tmp_path_factory):
    """Args of an evaluation of the trained adapter beside the one it started from."""
    folder = tmp_path_factory.mktemp("dialogues")
    return tiny.evaluate(
        folder,
        adapter=str(trained[0] / "adapter"),
        baseline_adapter=tiny.adapter,
        dataset={"path": write_rows(folder / "dialogues.jsonl", demo_rows("dialogues_test", ROWS))},
        samples_per_prompt=2,
        preferences={"dataset": {"path": str(tiny.folder / "pairs.jsonl")}, "beta": 0.1},
        bootstrap_resamples=1000,
        wandb={"mode": "offline", "project": "test"},
    )


def finished(values, folder, *options, **changes) -> subprocess.CompletedProcess:
    done = run_script("evaluate.py", values | {"output_dir": str(folder / "run")} | changes, folder, *options)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture(scope="module")
def evaluated(values, tmp_path_factory):
    """A finished evaluation: `(folder, what it printed)`."""
    folder = tmp_path_factory.mktemp("evaluated")
    done = finished(values, folder)
    return folder / "run", done


def test_it_leaves_what_the_contract_says(evaluated):
    run, done = evaluated
    for name in ("args.json", "environment.json", "metrics.json", "predictions.jsonl", "report.html", "summary.md"):
        assert (run / name).is_file(), name
    for name in ("emotions", "confusion", "quality", "lengths", "margins"):
        assert (run / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert list(run.glob("wandb/offline-run-*/*.wandb"))
    assert "reply/s" in done.stderr
    assert "p = " in done.stdout and "n = 24 prompts with 2 replies each" in done.stdout
    assert (run / "summary.md").read_text(encoding="utf-8").splitlines()[0].strip("*") in done.stdout
    assert read_json(run / "environment.json")["model"]["four_bit"] is True


def test_rows_are_of_both_models_in_order_and_of_the_data(evaluated, values):
    run, _ = evaluated
    rows = read_lines(run / "predictions.jsonl")
    assert [(row["model"], row["index"], row["sample"]) for row in rows] == [
        (model, index, sample) for model in ("baseline", "adapter") for index in range(ROWS) for sample in range(2)
    ]
    with open(values["dataset"]["path"], encoding="utf-8") as file:
        dialogues = [json.loads(line)["prompt"] for line in file]
    for row in rows:
        *history, last = dialogues[row["index"]]
        assert row["history"] == history
        assert (row["target_emotion"], row["reference"]) == (last["content"]["emotion"], last["content"]["dialog"])
        assert row["prompt"].endswith(f"<|im_start|>assistant {row['target_emotion']}\n")
        assert 2 <= row["new_tokens"] <= 8
        assert row["reference_logp"] < 0
    answers = {model: [row["response"] for row in rows if row["model"] == model] for model in ("baseline", "adapter")}
    assert answers["baseline"] != answers["adapter"]


def test_its_figures_are_sklearns_on_its_predictions(evaluated):
    run, _ = evaluated
    metrics = read_json(run / "metrics.json")
    rows = read_lines(run / "predictions.jsonl")
    for model in ("baseline", "adapter", "reference"):
        own = [row for row in rows if row["model"] == ("baseline" if model == "reference" else model)]
        own = [row for row in own if row["sample"] == 0] if model == "reference" else own
        label = "reference_emotion" if model == "reference" else "predicted_emotion"
        targets, predicted = [row["target_emotion"] for row in own], [row[label] for row in own]
        emotional = [pair for pair in zip(targets, predicted, strict=True) if pair[0] != "neutral"]
        asked, given = zip(*emotional, strict=True)
        expected = {
            "emotion_accuracy": accuracy_score(targets, predicted),
            "emotion_f1_weighted": f1_score(targets, predicted, average="weighted", zero_division=0),
            "emotion_f1_macro": f1_score(targets, predicted, average="macro", zero_division=0),
            "non_neutral_accuracy": accuracy_score(asked, given),
            "non_neutral_f1_macro": f1_score(asked, given, labels=list({*asked}), average="macro", zero_division=0),
        }
        for name, value in expected.items():
            assert metrics[f"{model}/{name}"] == pytest.approx(value, abs=1e-9), (model, name)
        if model != "reference":
            emotions = sorted({*targets, *predicted})
            counts = confusion_matrix(targets, predicted, labels=emotions)
            for at, target in enumerate(emotions):
                for place, label in enumerate(emotions):
                    assert metrics[f"{model}/confusion/{target}/{label}"] == counts[at, place]
            assert metrics[f"{model}/mean_new_tokens"] == pytest.approx(sum(r["new_tokens"] for r in own) / len(own))
            assert metrics[f"{model}/replies_per_second"] > 0


def test_the_preference_is_of_the_pairs_under_both_models(evaluated):
    run, _ = evaluated
    logps = {(row["model"], row["index"]): row["chosen_logp"] - row["rejected_logp"] for row in pair_rows(run)}
    margins = [0.1 * (logps["adapter", index] - logps["baseline", index]) for index in range(12)]
    metrics = read_json(run / "metrics.json")
    assert metrics["preference/pairs"] == 12
    assert metrics["preference/chosen_preferred"] == sum(margin > 0 for margin in margins) / 12
    assert metrics["preference/margin_mean"] == pytest.approx(sum(margins) / 12)
    assert metrics["preference/chosen_preferred"] > 0.5  # it was trained on these very pairs


def pair_rows(run):
    return read_lines(run / "pair_logps.jsonl")


def started(command: list[str], values: dict, folder) -> subprocess.Popen:
    file = folder / "args.json"
    file.write_text(json.dumps(values | {"output_dir": str(folder / "run")}), encoding="utf-8")
    return subprocess.Popen(
        [*command, str(ROOT / "evaluate.py"), "--json_file", str(file)],
        cwd=folder,
        env=script_environment() | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def replies_in(run):
    file = run / "predictions.jsonl"
    return file.read_bytes().count(b"\n") if file.exists() else 0


def test_killed_twice_it_ends_in_the_same_bytes(evaluated, values, tmp_path):
    run = tmp_path / "run"
    for least in (1, 40):
        process = started([sys.executable], values, tmp_path)
        once(lambda least=least: replies_in(run) >= least, process)
        process.kill()
        assert process.wait() == -signal.SIGKILL
        assert not (run / "metrics.json").exists()
        with open(run / "predictions.jsonl", "ab") as file:
            file.write(b'{"index": 3, "sample": 0, "mod')  # a write that the kill cut off
    kept = replies_in(run)
    again = finished(values, tmp_path)
    assert 0 < kept < 96
    assert f"line {kept + 1} was cut off" in again.stdout and "replies are there already" in again.stdout
    assert (run / "predictions.jsonl").read_bytes() == (evaluated[0] / "predictions.jsonl").read_bytes()
    assert sorted(map(str, pair_rows(run))) == sorted(map(str, pair_rows(evaluated[0])))
    speed = ("per_second",)
    figures, expected = (
        {name: value for name, value in read_json(each / "metrics.json").items() if not name.endswith(speed)}
        for each in (run, evaluated[0])
    )
    assert figures == expected


def test_two_processes_stopped_and_resumed_write_the_file_of_one(evaluated, values, tmp_path):
    """torchrun stopped by a signal, accelerate to the end."""
    run = tmp_path / "run"
    first = started(TORCHRUN, values, tmp_path)
    once(lambda: replies_in(run) >= 8, first)
    first.send_signal(signal.SIGINT)
    _, said = first.communicate(timeout=300)
    assert "run the same command again to go on from there" in said
    assert not (run / "metrics.json").exists()
    second = started(ACCELERATE, values, tmp_path)
    out, said = second.communicate(timeout=300)
    assert second.returncode == 0, said
    assert out.count("done: open") == out.count("replies are there already") == 1  # one voice
    assert (run / "predictions.jsonl").read_bytes() == (evaluated[0] / "predictions.jsonl").read_bytes()
    assert read_json(run / "environment.json")["processes"] == 2


def test_a_finished_run_says_so(evaluated, values, tmp_path):
    run, _ = evaluated
    again = run_script("evaluate.py", values | {"output_dir": str(run)}, tmp_path)
    assert (again.returncode, again.stderr) == (0, "")
    assert f"{run} is finished: see report.html" in again.stdout


def test_data_that_changed_since_are_told(evaluated, values, tmp_path, capsys):
    part = tmp_path / "run"
    part.mkdir()
    rows = read_lines(evaluated[0] / "predictions.jsonl")
    rows[0]["prompt"] = "another prompt"
    write_rows(part / "predictions.jsonl", rows)
    (part / "args.json").write_text(json.dumps(read_json(evaluated[0] / "args.json") | {"output_dir": str(part)}))
    assert run_here(evaluate.main, values | {"output_dir": str(part)}, tmp_path) == 2
    assert "answers another prompt in row 0 than dataset and chat_template give now" in capsys.readouterr().err


def test_replies_are_judged_again_without_a_model(evaluated, values, tiny, tmp_path):
    """Other judges, elsewhere, with neither base nor adapters nor data at hand; then the same judges in place."""
    run, _ = evaluated
    swapped = ["anger", "neutral", "disgust", "fear", "happiness", "sadness", "surprise"]
    elsewhere = {"base_model": "gone/base", "adapter": "gone/adapter", "baseline_adapter": "gone/too"}
    done = finished(
        values,
        tmp_path,
        *("--from_predictions", str(run), "--set", "dataset.path=gone/data"),
        scoring=values["scoring"] | {"emotion_labels": swapped},
        wandb={"mode": "disabled"},
        **elsewhere,
    )
    assert "Unsloth" not in done.stdout + done.stderr
    swap = {"neutral": "anger", "anger": "neutral"}
    before, after = (read_lines(each / "predictions.jsonl") for each in (run, tmp_path / "run"))
    assert [row["response"] for row in after] == [row["response"] for row in before]
    assert [row["predicted_emotion"] for row in after] == [
        swap.get(row["predicted_emotion"], row["predicted_emotion"]) for row in before
    ]
    assert read_json(tmp_path / "run" / "args.json")["from_predictions"] == str(run)
    metrics = read_json(tmp_path / "run" / "metrics.json")
    assert metrics["preference/pairs"] == 12 and metrics["adapter/replies_per_second"] > 0

    bytes_before = (run / "predictions.jsonl").read_bytes()
    (run / "report.html").unlink()
    assert run_here(evaluate.main, values | {"output_dir": str(run)}, tmp_path, "--from_predictions", str(run)) == 0
    assert (run / "report.html").is_file()
    assert (run / "predictions.jsonl").read_bytes() == bytes_before
    assert read_json(run / "environment.json")["model"]["four_bit"] is True


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda lines: lines[:-1] + [lines[-1][:50]], "line 96: is no JSON"),
        (lambda lines: lines[:-1], "adapter has not answered row 23, sample 1"),
        (lambda lines: lines + [lines[0]], "a reply of one model to one prompt and sample twice"),
        (lambda lines: [lines[0].replace(b'"new_tokens": ', b'"new_tokens": "few", "x": ')] + lines[1:], "line 1: new"),
        (lambda lines: [lines[0].replace(b'"history"', b'"past"')] + lines[1:], "line 1: has no history"),
        (lambda lines: [], "holds no rows"),
    ],
)
def test_files_that_are_no_predictions_are_refused_with_the_line(evaluated, tmp_path, change, words):
    lines = (evaluated[0] / "predictions.jsonl").read_bytes().splitlines()
    file = tmp_path / "predictions.jsonl"
    file.write_bytes(b"\n".join(change(lines)))
    with pytest.raises(InputError, match=words):
        predictions.read(file, predictions.GENERATED)


def test_plain_transformers_evaluates_the_bare_base_too(tiny, tmp_path):
    done = finished(tiny.evaluate(tmp_path, backend="transformers"), tmp_path)
    assert "Unsloth" not in done.stdout + done.stderr
    assert read_json(tmp_path / "run" / "environment.json")["model"]["four_bit"] is True
    assert len(read_lines(tmp_path / "run" / "predictions.jsonl")) == 12


def test_a_dry_run_shows_the_prompts_and_writes_nothing(values, tmp_path, capsys):
    assert run_here(evaluate.main, values | {"output_dir": str(tmp_path / "run")}, tmp_path, "--dry_run") == 0
    shown = capsys.readouterr().out
    assert f"prompts {ROWS}, tokens: median" in shown
    assert f"{ROWS * 4} replies of up to 8 new tokens" in shown
    assert not (tmp_path / "run").exists()


REFUSED = {
    "a prompt longer than the context": (
        {"from_pretrained": {"max_seq_length": 60}},
        "error: dataset, row 2: .* the model's context holds 60",
    ),
    "judges of other labels": (
        {"scoring": {"emotion_model": "gibberish", "gibberish_model": "gibberish"}},
        "its labels are clean, noise; needed: neutral, .* map them with scoring.emotion_labels",
    ),
    "labels that the judge has not": (
        {"scoring": {"emotion_model": "emotion", "gibberish_model": "gibberish", "emotion_labels": {"joy": "fear"}}},
        "joy: no label of .*emotion; it has neutral, anger",
    ),
    "too few labels": (
        {"scoring": {"emotion_model": "emotion", "gibberish_model": "gibberish", "emotion_labels": ["fear"]}},
        "1 names for 7 labels",
    ),
    "pairs that are missing": (
        {"preferences": {"dataset": {"path": "./none.jsonl"}, "beta": 0.1}},
        "preferences.dataset.path: ./none.jsonl: no such file",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_evaluated_is_refused_and_nothing_written(case, tiny, values, tmp_path, capsys):
    changes, words = REFUSED[case]
    places = {name: str(tiny.folder / name) for name in ("emotion", "gibberish")}
    if "scoring" in changes:
        changes = {"scoring": {key: places.get(str(name), name) for key, name in changes["scoring"].items()}}
    assert run_here(evaluate.main, values | {"output_dir": str(tmp_path / "run")} | changes, tmp_path) == 2
    assert re.search(words, capsys.readouterr().err)
    assert not (tmp_path / "run").exists()


COMPARE = {
    "one run": (["{run}"], "name two or more different run folders"),
    "no run folder": (["{run}", "{empty}"], "no run folder"),
    "a training run": (["{run}", "{trained}"], "is no evaluation"),
}


@pytest.mark.parametrize("case", COMPARE)
def test_what_cannot_be_compared_is_refused(case, evaluated, trained, tmp_path, monkeypatch, capsys):
    folders, words = COMPARE[case]
    (tmp_path / "empty").mkdir()
    folders = [each.format(run=evaluated[0], empty=tmp_path / "empty", trained=trained[0]) for each in folders]
    assert compared(folders, tmp_path, monkeypatch) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "comparison").exists()


def compared(folders, place, monkeypatch) -> int:
    monkeypatch.chdir(place)
    monkeypatch.setattr(sys, "argv", ["evaluate.py", "--compare", *map(str, folders)])
    return command_line.run(evaluate.main)


def copied(run, folder, change):
    """Another finished run: the rows of the adapter, changed."""
    shutil.copytree(run, folder, ignore=shutil.ignore_patterns("wandb"))
    rows = read_lines(run / "predictions.jsonl")
    for row in rows:
        change(row)
    write_rows(folder / "predictions.jsonl", rows)
    return folder


def test_finished_runs_are_compared_on_the_same_prompts(evaluated, tmp_path, monkeypatch, capsys):
    run, _ = evaluated

    def follow(row):
        if row["index"] % 2:
            row["predicted_emotion"] = row["target_emotion"]

    other = copied(run, tmp_path / "other", follow)
    assert compared([run, other], tmp_path, monkeypatch) == 0
    found = read_json(tmp_path / "comparison" / "metrics.json")
    own = read_json(run / "metrics.json")["adapter/emotion_accuracy"]
    rows = [row for row in read_lines(other / "predictions.jsonl") if row["model"] == "adapter"]
    better = accuracy_score([row["target_emotion"] for row in rows], [row["predicted_emotion"] for row in rows])
    assert found[f"{run}/emotion_accuracy"] == own
    assert found["difference/emotion_accuracy"] == pytest.approx(better - own)
    assert f"{other} follows the target emotion more often than {run}: +" in capsys.readouterr().out
    assert (tmp_path / "comparison" / "report.html").is_file()
    assert compared([run, other], tmp_path, monkeypatch) == 0  # once more in its own folder
    assert compared([other, run], tmp_path, monkeypatch) == 2  # another comparison
    assert "holds another run; differing: compare; name another with --output_dir" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda row: row.update(target_emotion="fear"), "is another prompt than in"),
        (lambda row: row["history"][0]["content"].update(dialog="Hi ."), "is another prompt than in"),
        (lambda row: row.update(index=row["index"] + 1), "is another prompt than in"),
    ],
)
def test_runs_of_other_prompts_are_not_compared(evaluated, tmp_path, monkeypatch, capsys, change, words):
    other = copied(evaluated[0], tmp_path / "other", change)
    assert compared([evaluated[0], other], tmp_path, monkeypatch) == 2
    assert words in capsys.readouterr().err


def test_runs_of_other_judges_are_not_compared(evaluated, tmp_path, monkeypatch, capsys):
    other = copied(evaluated[0], tmp_path / "other", lambda row: None)
    args = read_json(other / "args.json")
    args["scoring"]["emotion_model"] = "another/judge"
    (other / "args.json").write_text(json.dumps(args), encoding="utf-8")
    assert compared([evaluated[0], other], tmp_path, monkeypatch) == 2
    assert "scoring.emotion_model is another/judge" in capsys.readouterr().err


def test_an_interrupted_run_says_where_it_stands(tmp_path, monkeypatch):
    def stop(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(predictions, "answer", stop)
    how = Sampling(None, 1, 1, BatchLimit(1))
    with pytest.raises(KeyboardInterrupt, match="predictions.jsonl; run the same command again to go on from there"):
        predictions.generate(tmp_path, "adapter", None, None, [[None]], how)


def test_a_resumed_run_keeps_the_batch_that_fitted(tmp_path, monkeypatch):
    monkeypatch.setattr(predictions, "answer", lambda *args: [])
    (tmp_path / "generation.jsonl").write_text(json.dumps({"batch_size": 2}) + "\n", encoding="utf-8")
    how = Sampling(None, 1, 1, BatchLimit(16))
    predictions.generate(tmp_path, "adapter", None, None, [], how)
    assert how.limit.rows == 2
