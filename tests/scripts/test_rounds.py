"""`python -m response_generator.rounds` as a whole, on tiny random models."""

import json
import shutil
import signal

import pytest
from conftest import adapter_bytes, read_json, read_lines, write_rows
from script_runs import run_here, run_script, start_script, start_two_processes
from test_interruptions import logged, once
from test_preferences import sampled
from tiny_models import demo_rows

import evaluate
import fine_tune_dpo
from response_generator.preferences import __main__ as preferences
from response_generator.rounds import __main__ as rounds

SCRIPT = "response_generator/rounds/__main__.py"
SIZE = 8  # dialogues of a round
ANY_PRICE = {"min_gain": -1}
OF_ALL = ("summary.md", "rounds.png", "log.jsonl", "metrics.json", "adapter/adapter_model.safetensors")
OF_A_ROUND = (
    "pairs/preferences.jsonl",
    "dpo/adapter/adapter_model.safetensors",
    "evaluation/predictions.jsonl",
)
SAME_BYTES = [*OF_ALL, *(f"round-{number}/{name}" for number in (1, 2) for name in OF_A_ROUND)]


@pytest.fixture(scope="module")
def improving(tiny, tmp_path_factory) -> dict:
    """Args of two rounds at any price."""
    folder = tmp_path_factory.mktemp("dialogues")
    dialogues = write_rows(folder / "dialogues.jsonl", demo_rows("dialogues_train", 2 * SIZE))
    dpo = tiny.dpo(folder, eval_dataset=None)
    dpo["dpo"] |= {"num_train_epochs": 2}
    choosing = {"emotion_model": str(tiny.folder / "choosing")}
    return {
        "seed": 42,
        "rounds": 2,
        "dialogues_per_round": SIZE,
        "adapter": tiny.adapter,
        "stop": ANY_PRICE,
        "preference_args": tiny.preferences(folder, dataset={"path": dialogues}, filters={}, max_attempts=2),
        "dpo_args": dpo,
        "evaluate_args": tiny.evaluate(
            folder,
            samples_per_prompt=2,
            baseline_adapter=tiny.adapter,
            best_of={"samples": 2, "models": ["baseline"], "scoring": choosing},
            bootstrap_resamples=200,
        ),
    }


@pytest.fixture(scope="module")
def improved(improving, tmp_path_factory):
    """A finished run: `(run folder, completed process)`."""
    folder = tmp_path_factory.mktemp("improved")
    done = run_script(SCRIPT, improving | {"output_dir": str(folder / "run")}, folder)
    assert done.returncode == 0, done.stderr
    return folder / "run", done


def test_it_leaves_what_the_contract_says(improved):
    run, done = improved
    for name in ("args.json", "environment.json", "metrics.json", "report.html", "summary.md", "rounds.png"):
        assert (run / name).stat().st_size, name
    assert "Traceback" not in done.stderr
    assert [row["round"] for row in read_lines(run / "log.jsonl")] == [1, 2]
    metrics = read_json(run / "metrics.json")
    evaluated = [read_json(run / f"round-{number}" / "evaluation" / "metrics.json") for number in (1, 2)]
    shares = [each["adapter/emotion_accuracy"] for each in evaluated]
    start = evaluated[0]["baseline/emotion_accuracy"]
    assert [metrics[f"round-{number}/emotion_accuracy"] for number in (1, 2)] == shares
    best = max((share, -number) for number, share in enumerate(shares, 1))
    assert metrics["best_round"] == (-best[1] if best[0] > start else 0)
    assert (run / "adapter").exists() == (metrics["best_round"] > 0)
    assert metrics["baseline best of 2/emotion_accuracy"] == evaluated[0]["baseline best of 2/emotion_accuracy"]
    assert not any("best of" in key for key in evaluated[1])  # once is enough


def test_the_kept_adapter_is_that_of_the_best_round(improved):
    run, _ = improved
    best = read_json(run / "metrics.json")["best_round"]
    assert best, "choose other seeds: this test needs a round that is kept"
    assert adapter_bytes(run) == adapter_bytes(run / f"round-{best}" / "dpo")


def test_each_round_goes_on_from_the_one_before_with_other_dialogues(improved, tiny):
    run, _ = improved
    pairs, dpo, evaluation = (
        [read_json(run / f"round-{number}" / name / "args.json") for number in (1, 2)]
        for name in ("pairs", "dpo", "evaluation")
    )
    assert [(each["dataset"]["offset"], each["dataset"]["limit"]) for each in pairs] == [(0, SIZE), (SIZE, SIZE)]
    after_first = str(run / "round-1" / "dpo" / "adapter")
    assert [each["adapter"] for each in pairs] == [tiny.adapter, after_first]
    assert [(each["adapter"], each["reference_adapter"]) for each in dpo] == [(tiny.adapter, None), (after_first, None)]
    assert [each["seed"] for each in pairs + dpo + evaluation] == [42, 43, 42, 43, 42, 42]
    assert [each["baseline_adapter"] for each in evaluation] == [tiny.adapter] * 2
    kept = {name: read_json(run / "args.json")[name]["seed"] for name in ("preference_args", "evaluate_args")}
    assert kept == {"preference_args": 42, "evaluate_args": 42}  # the args of all programs stand in the run folder


def test_the_programs_alone_give_the_same_bytes(improved, tmp_path):
    """What one program leaves behind in the process changes nothing for the next."""
    run, _ = improved
    for name, main in (("pairs", preferences.main), ("dpo", fine_tune_dpo.main), ("evaluation", evaluate.main)):
        values = read_json(run / "round-2" / name / "args.json") | {"output_dir": str(tmp_path / name)}
        assert run_here(main, values, tmp_path) == 0
    for name in OF_A_ROUND:
        assert (tmp_path / name).read_bytes() == (run / "round-2" / name).read_bytes(), name


def test_args_json_starts_the_same_rounds(improved, tmp_path, capsys):
    run, _ = improved
    assert run_here(rounds.main, read_json(run / "args.json"), tmp_path) == 0
    assert "is finished and is kept" in capsys.readouterr().out
    assert run_here(rounds.main, read_json(run / "args.json"), tmp_path, "--set", "stop.min_gain=0.5") == 2
    assert "holds another run; differing: stop.min_gain" in capsys.readouterr().err


def test_killed_in_each_program_it_ends_in_the_same_bytes(improved, improving, tmp_path):
    run = tmp_path / "run"
    for place, happened in {
        "pairs": lambda: sampled(run / "round-1" / "pairs") > 0,
        "training": logged(run / "round-1" / "dpo", 2),
        "evaluation": (run / "round-1" / "evaluation" / "predictions.jsonl").exists,
        "second round": (run / "round-2" / "dpo" / "log.jsonl").exists,
        "report": (run / "adapter").exists,
    }.items():
        process = start_script(SCRIPT, improving | {"output_dir": str(run)}, tmp_path)
        once(happened, process)
        process.kill()
        assert process.wait() == -signal.SIGKILL, place
        (run / "metrics.json").unlink(missing_ok=True)  # written at once after the adapter
    done = run_script(SCRIPT, improving | {"output_dir": str(run)}, tmp_path)
    assert done.returncode == 0, done.stderr
    for name in SAME_BYTES:
        assert (run / name).read_bytes() == (improved[0] / name).read_bytes(), name


def test_ctrl_c_in_training_saves_and_says_how_to_go_on(improved, improving, tmp_path):
    run = tmp_path / "run"
    process = start_script(SCRIPT, improving | {"output_dir": str(run)}, tmp_path)
    once(logged(run / "round-1" / "dpo", 1), process)
    process.send_signal(signal.SIGINT)
    said = process.read_stderr()
    assert process.wait() == 130, said
    assert "is saved; run the same command again to continue from it" in said and "Traceback" not in said


def test_two_processes_go_through_all_rounds(improving, tmp_path):
    values = improving | {"output_dir": str(tmp_path / "run")}
    processes = start_two_processes(SCRIPT, values, tmp_path)
    assert [process.wait() for process in processes] == [0, 0], processes[0].read_stderr()
    assert read_json(tmp_path / "run" / "metrics.json")["rounds"] == 2


def test_a_policy_that_collapses_ends_the_rounds_and_is_not_kept(improving, tmp_path, capsys):
    """With so high a learning rate the first round breaks the model: the perplexity of the gold replies rises."""
    values = improving | {"output_dir": str(tmp_path / "run"), "stop": ANY_PRICE | {"max_gold_perplexity_ratio": 1.15}}
    values["dpo_args"] = json.loads(json.dumps(values["dpo_args"]))
    values["dpo_args"]["dpo"] |= {"learning_rate": 1.0, "max_grad_norm": 1000.0}
    assert run_here(rounds.main, values, tmp_path) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "No round is kept" in said and "round 1 is beyond the limit: perplexity of the gold replies" in said
    assert not (tmp_path / "run" / "round-2").exists() and not (tmp_path / "run" / "adapter").exists()
    metrics = read_json(tmp_path / "run" / "metrics.json")
    assert (metrics["rounds"], metrics["best_round"], metrics["round-1/limits_broken"]) == (1, 0, 1)
    assert metrics["round-1/gold_perplexity"] > 1.15 * metrics["round-1/start/gold_perplexity"]


def test_a_dry_run_shows_the_first_round_and_writes_nothing(improving, tmp_path, capsys):
    assert run_here(rounds.main, improving | {"output_dir": str(tmp_path / "dry")}, tmp_path, "--dry_run") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f"{SIZE * 3} candidates of up to 8 new tokens" in said
    assert f"training: pairs read {SIZE}, used {SIZE}" in said
    assert "estimated memory in training" in said and "s per step, so training takes about" in said
    assert "24 replies and 24 candidates for baseline best of 2" in said
    assert not (tmp_path / "dry").exists()


def test_everything_wrong_is_said_at_once_and_nothing_written(improving, tmp_path, capsys):
    values = json.loads(json.dumps(improving)) | {"output_dir": str(tmp_path / "run")}
    values["preference_args"]["dataset"]["path"] = "./no_dialogues.jsonl"
    values["dpo_args"]["eval_dataset"] = {"path": "./no_pairs.jsonl"}
    values["evaluate_args"]["scoring"]["gibberish_model"] = "./no_classifier"
    values["adapter"] = "./no_adapter"
    assert run_here(rounds.main, values, tmp_path) == 2
    said = capsys.readouterr().err
    for words in (
        f"error: adapter: {tmp_path.cwd() / 'no_adapter'}: no such file or folder",
        "error: preference_args.dataset.path: ",
        "error: dpo_args.eval_dataset.path: ",
        "error: evaluate_args.scoring.gibberish_model: ",
    ):
        assert words in said, said
    assert len(said.splitlines()) == 4
    assert not (tmp_path / "run").exists()


def test_too_few_dialogues_are_refused(improving, tmp_path, capsys):
    values = improving | {"output_dir": str(tmp_path / "run"), "rounds": 3}
    assert run_here(rounds.main, values, tmp_path) == 2
    said = capsys.readouterr().err
    assert f"has {2 * SIZE} rows from offset 0 on; 3 rounds of dialogues_per_round {SIZE} need {3 * SIZE}" in said
    assert not (tmp_path / "run").exists()


def test_a_moved_folder_goes_on(improved, improving, tmp_path):
    shutil.copytree(improved[0], tmp_path / "moved")
    (tmp_path / "moved" / "metrics.json").unlink()
    (tmp_path / "moved" / "round-2" / "evaluation" / "metrics.json").unlink()
    assert run_here(rounds.main, improving | {"output_dir": str(tmp_path / "moved")}, tmp_path) == 0
    for name in ("metrics.json", "round-2/evaluation/predictions.jsonl"):
        assert (tmp_path / "moved" / name).read_bytes() == (improved[0] / name).read_bytes(), name
