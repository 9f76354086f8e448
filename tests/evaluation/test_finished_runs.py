"""evaluate.py --compare: the paired report of finished runs, and which runs cannot be compared."""

import json
import shutil
import subprocess
import sys

import pytest
from conftest import read_json, read_lines, write_rows
from sklearn.metrics import accuracy_score

import evaluate
from response_generator.cli import command_line

COMPARE = {
    "one run": (["{run}"], "name two or more different run folders"),
    "one recipe": (["name={run},{empty}"], "name two or more different run folders"),
    "a run of two recipes": (["{run}", "name={run},{empty}"], "name two or more different run folders"),
    "no run folder": (["{run}", "{empty}"], "no run folder"),
    "a training run": (["{run}", "{trained}"], "is not an evaluation"),
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
    return command_line.run_main(evaluate.main)


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
    assert found["run/emotion_accuracy"] == own
    assert found["difference/emotion_accuracy"] == pytest.approx(better - own)
    assert "other follows the target emotion more often than run: +" in capsys.readouterr().out
    assert read_json(tmp_path / "comparison" / "args.json") == {"compare": [str(run), str(other)]}
    assert (tmp_path / "comparison" / "report.html").is_file()
    assert compared([run, other], tmp_path, monkeypatch) == 0  # once more in its own folder
    assert compared([other, run], tmp_path, monkeypatch) == 2  # another comparison
    assert "holds another run; differing: compare; name another with --output_dir" in capsys.readouterr().err


def test_runs_are_shown_by_short_names(evaluated, tmp_path, monkeypatch):
    folders = [copied(evaluated[0], tmp_path / place, lambda row: None) for place in ("a/run", "b/run", "c/gold")]
    for folder, seed in zip(folders, (1, 2, 3), strict=True):
        args = read_json(folder / "args.json") | {"seed": seed}
        (folder / "args.json").write_text(json.dumps(args), encoding="utf-8")
    assert compared(folders, tmp_path, monkeypatch) == 0
    metrics = read_json(tmp_path / "comparison" / "metrics.json")
    # "gold" alone is the group of the gold replies.
    assert {"a/run/distinct_1", "c/gold/distinct_1", "gold/distinct_1", "difference of b/run/distinct_1"} <= set(
        metrics
    )
    page = (tmp_path / "comparison" / "report.html").read_text(encoding="utf-8")
    title = f"Evaluation: {tmp_path.name}/comparison (a/run, b/run, c/gold)"
    assert f"<title>{title}</title>" in page and f"<h1>{title}</h1>" in page
    assert "a/run: 1; b/run: 2; c/gold: 3" in page


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda row: row.update(target_emotion="fear", gold_target="fear"), "has another prompt than in"),
        (lambda row: row["history"][0]["content"].update(dialog="Hi ."), "has another prompt than in"),
        (lambda row: row.update(index=row["index"] + 1), "has another prompt than in"),
    ],
)
def test_runs_of_other_prompts_are_not_compared(evaluated, tmp_path, monkeypatch, capsys, change, words):
    other = copied(evaluated[0], tmp_path / "other", change)
    assert compared([evaluated[0], other], tmp_path, monkeypatch) == 2
    assert words in capsys.readouterr().err


def test_runs_of_other_judges_are_not_compared(evaluated, tmp_path, monkeypatch, capsys):
    other = copied(evaluated[0], tmp_path / "other", lambda row: None)
    args = read_json(other / "args.json")
    args["scoring"]["emotion_model"] = "another/classifier"
    (other / "args.json").write_text(json.dumps(args), encoding="utf-8")
    assert compared([evaluated[0], other], tmp_path, monkeypatch) == 2
    assert "scoring.emotion_model is another/classifier" in capsys.readouterr().err


def test_runs_scored_before_and_after_a_classifier_was_overwritten_are_not_compared(
    evaluated, tmp_path, monkeypatch, capsys
):
    other = copied(evaluated[0], tmp_path / "other", lambda row: None)
    environment = read_json(other / "environment.json")
    environment["weights"]["scoring.emotion_model"]["model.safetensors"] = "xxh3-128:0"
    (other / "environment.json").write_text(json.dumps(environment), encoding="utf-8")
    assert compared([evaluated[0], other], tmp_path, monkeypatch) == 2
    said = capsys.readouterr().err
    assert "had other weights than in" in said and "gibberish_model" not in said


@pytest.mark.parametrize("older_first", [True, False])
def test_a_run_of_an_earlier_version_is_compared_as_with_the_defaults_of_later_keys(
    evaluated, tmp_path, monkeypatch, capsys, older_first
):
    def remove(row):
        del row["names_emotion"], row["gold_names_emotion"]

    older = copied(evaluated[0], tmp_path / "older", remove)
    args = read_json(older / "args.json")
    del args["scoring"]["clean_up_tokenization_spaces"], args["bootstrap_resamples"], args["scoring"]["emotion_words"]
    (older / "args.json").write_text(json.dumps(args), encoding="utf-8")
    runs = [older, evaluated[0]] if older_first else [evaluated[0], older]
    assert compared(runs, tmp_path, monkeypatch) == 0
    assert not [name for name in read_json(tmp_path / "comparison" / "metrics.json") if "names_emotion" in name]


def test_many_runs_of_one_recipe_may_have_long_names_together(evaluated, tmp_path, monkeypatch):
    for number in range(12):
        copied(evaluated[0], tmp_path / f"evaluation_with_seed_{number}", lambda row: None)
    recipe = "dpo=" + ",".join(f"evaluation_with_seed_{number}" for number in range(12))
    assert len(recipe) > 255
    assert compared([evaluated[0], recipe], tmp_path, monkeypatch) == 0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[]", "args.json: holds a list"),
        ('{"scoring": 3}', "args.json: scoring: got 3 (integer)"),
        ('{"scoring": {"emotion_model": 3}}', "args.json: scoring.emotion_model: got 3 (integer)"),
    ],
)
def test_damaged_arguments_of_a_run_are_told(evaluated, tmp_path, monkeypatch, capsys, text, words):
    other = copied(evaluated[0], tmp_path / "other", lambda row: None)
    (other / "args.json").write_text(text, encoding="utf-8")
    assert compared([evaluated[0], other], tmp_path, monkeypatch) == 2
    assert words in capsys.readouterr().err


def test_runs_of_one_recipe_are_one_model(evaluated, tmp_path, monkeypatch, capsys):
    run, _ = evaluated

    def follow(remainder):
        def change(row):
            if row["index"] % 3 == remainder:
                row["predicted_emotion"] = row["target_emotion"]

        return change

    seeds = [copied(run, tmp_path / f"seed_{number}", follow(number)) for number in range(3)]
    recipe = f"dpo={','.join(map(str, seeds))}"
    assert compared([run, recipe], tmp_path, monkeypatch) == 0
    found = read_json(tmp_path / "comparison" / "metrics.json")
    accuracies = []
    for seed in seeds:
        rows = [row for row in read_lines(seed / "predictions.jsonl") if row["model"] == "adapter"]
        accuracies.append(sum(row["target_emotion"] == row["predicted_emotion"] for row in rows) / len(rows))
    assert found["dpo/emotion_accuracy"] == pytest.approx(sum(accuracies) / 3)
    assert found["dpo/distinct_1"] == pytest.approx(found["run/distinct_1"])  # the texts are the same in each
    assert found["difference/distinct_1"] == pytest.approx(0)
    said = " ".join(capsys.readouterr().out.split())
    assert "3 runs of dpo" in said and "dpo (3 runs)" in said
    page = (tmp_path / "comparison" / "report.html").read_text(encoding="utf-8")
    assert "the variation between training runs" in page


def test_a_comparison_imports_no_torch():
    code = "import sys; from response_generator.programs import comparison_run; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
