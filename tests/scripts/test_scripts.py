"""Training as a user runs it, and what both scripts refuse: real unsloth, TRL, PEFT and bitsandbytes, tiny models."""

import re
import shutil

import pytest
from conftest import HISTORY, STEPS, adapter_bytes, read_json, read_lines, write_rows
from script_runs import run_here, run_new_interpreter, run_script
from tiny_models import write_tiny_adapter, write_tiny_base

import fine_tune_dpo


def test_a_dpo_run_leaves_what_the_contract_says(trained):
    run, _ = trained
    files = ("args.json", "environment.json", "metrics.json", "log.jsonl", "training.png", "report.html")
    for name in (*files, "adapter", "wandb"):
        assert (run / name).exists(), name
    assert sorted(path.name for path in run.glob("checkpoint-*")) == ["checkpoint-2", "checkpoint-4", "checkpoint-6"]
    saved = {path.name for path in (run / "adapter").iterdir()}
    assert {"adapter_model.safetensors", "adapter_config.json", "tokenizer.json", "chat_template.jinja"} <= saved
    assert "library_name: peft" in (run / "adapter" / "README.md").read_text(encoding="utf-8")
    assert not list(run.rglob("*.bin"))
    assert (run / "training.png").read_bytes().startswith(b"\x89PNG")


def test_its_log_and_metrics_are_trls(trained):
    run, _ = trained
    log = [entry for entry in read_lines(run / "log.jsonl") if "loss" in entry]
    assert [entry["step"] for entry in log] == list(range(1, STEPS + 1))
    assert {"rewards/chosen", "rewards/margins", "rewards/accuracies", "logps/chosen", "epoch", "seconds"} <= set(
        log[0]
    )
    assert log[0]["loss"] == pytest.approx(0.6931, abs=1e-3)
    assert log[-1]["loss"] < 0.6
    metrics = read_json(run / "metrics.json")
    assert metrics["initial_loss"] == pytest.approx(0.6931, abs=1e-4)
    assert metrics["eval_rewards/accuracies"] >= 0.5
    assert metrics["peak_memory_gb"] < 8


def test_it_shows_the_example_the_lengths_and_the_attention_really_used(trained):
    run, done = trained
    shown = done.stdout
    assert "<|im_start|>assistant" in shown
    assert "chosen   ⟦" in shown and "<|im_end|>⟧" in shown
    assert "training: pairs read 12, used 12, dropped 0, truncated 0" in shown
    assert f"batch size 4, 3 steps per epoch, {STEPS} steps in total" in shown
    assert shown.count("attn_implementation: flash_attention_2 needs a CUDA device; using sdpa") == 1
    model = read_json(run / "environment.json")["model"]
    assert (model["attention"], model["four_bit"], model["class"]) == ("sdpa", True, "LlamaForCausalLM")
    assert done.stderr.splitlines()[-1].startswith("24/24 pairs")
    assert done.stderr.count("pairs") <= 1 + STEPS  # in a file, at most a line at each log line, and one at the end


def test_a_finished_run_says_so_and_another_is_refused(trained, tiny):
    run, _ = trained
    wandb = {"mode": "offline", "project": "test"}
    again = run_script("fine_tune_dpo.py", tiny.dpo(run, wandb=wandb), run.parent)
    assert (again.returncode, again.stderr) == (0, "")
    assert "is finished" in again.stdout
    before = adapter_bytes(run)
    other = run_script("fine_tune_dpo.py", tiny.dpo(run, wandb=wandb), run.parent, "--set", "dpo.beta=0.5")
    assert other.returncode == 2
    assert "holds another run; differing: dpo.beta" in other.stderr
    assert adapter_bytes(run) == before


def test_a_dry_run_shows_everything_and_writes_nothing(tiny, tmp_path):
    """The base is as wide as the estimate of its memory can be seen in."""
    write_tiny_base(tmp_path / "wide", hidden=1024)
    write_tiny_adapter(tmp_path / "wide", tmp_path / "adapter")
    args = tiny.dpo(tmp_path / "run", base_model=str(tmp_path / "wide"), adapter=str(tmp_path / "adapter"))
    args["dpo"] |= {"max_length": 100, "per_device_train_batch_size": 8}
    done = run_new_interpreter("fine_tune_dpo.py", args, tmp_path, "--dry_run")
    assert done.returncode == 0, done.stderr
    shown = done.stdout
    assert "training: pairs read 12" in shown and "held out: pairs read 4" in shown
    assert int(shown.partition(", dropped ")[2].partition(",")[0]) > 0
    assert "the required markers '<|im_start|>user ', '<|im_end|>' are in every prompt" in shown
    assert "steps in total" in shown and "activations of the longest batch" in shown
    estimated = float(re.search(r"total +│ +([\d.]+)", shown)[1])
    measured = float(re.search(r"([\d.]+) GB for the longest batch", shown)[1])
    assert estimated == pytest.approx(measured, rel=0.3)
    assert re.search(r"[\d.]+ s per step, so training takes about 0 h 0 min", shown)
    assert not (tmp_path / "run").exists()


def test_verbose_shows_what_the_libraries_print(tiny, tmp_path, capsys):
    assert run_here(fine_tune_dpo.main, tiny.dpo(tmp_path / "run"), tmp_path, "--dry_run", "--verbose") == 0
    assert "Unsloth (CPU): LlamaForCausalLM on 1 CPU threads" in capsys.readouterr().out


def test_every_part_of_a_run_that_the_args_ask_for_is_in_it(tiny, tmp_path, capsys):
    """Another reference, computed once; the best adapter kept; a hub that cannot be reached; the export. The next start
    tells what is missing."""
    write_tiny_adapter(tiny.folder / "base", tmp_path / "other", seed=9)
    args = tiny.dpo(
        tmp_path / "run",
        reference_adapter=str(tmp_path / "other"),
        export={"path": str(tmp_path / "merged")},
        push_to_hub={"repo_id": "me/bot"},
    )
    args["dpo"] |= {
        "precompute_ref_log_probs": True,
        "eval_strategy": "steps",
        "eval_steps": 1,
        "save_steps": 1,
        "num_train_epochs": 4,
        "load_best_model_at_end": True,
        "early_stopping_patience": 2,
        "learning_rate": 3.0,
    }
    variables = {"HF_TOKEN": "hf_of_a_test", "HF_ENDPOINT": "http://127.0.0.1:9", "XDG_CACHE_HOME": str(tmp_path / "c")}
    done = run_new_interpreter("fine_tune_dpo.py", args, tmp_path, **variables)
    assert done.returncode == 0, done.stderr
    metrics = read_json(tmp_path / "run" / "metrics.json")
    assert metrics["initial_max_logp_gap"] > 1  # the other reference
    assert metrics["steps"] == metrics["best_step"] + 2 < 12  # stopped early
    kept = tmp_path / "run" / f"checkpoint-{metrics['best_step']}" / "adapter_model.safetensors"
    assert adapter_bytes(tmp_path / "run") == kept.read_bytes()
    assert len(list((tmp_path / "c").rglob("*.safetensors"))) == 2  # training and held out
    assert "to upload it yourself" in done.stderr and "hf_of_a_test" not in done.stdout + done.stderr
    assert (tmp_path / "merged" / "model.safetensors").is_file()
    assert run_here(fine_tune_dpo.main, args, tmp_path) == 0
    said = capsys.readouterr().out
    assert "push_to_hub: the DPO adapter was not uploaded (" in said and "to upload it yourself" in said
    assert "not exported" not in said
    shutil.rmtree(tmp_path / "merged")
    (tmp_path / "merged").mkdir()  # an empty folder may have been there before
    assert run_here(fine_tune_dpo.main, args, tmp_path) == 0
    assert f"not exported yet: python -m response_generator.export {tmp_path / 'run'}\n" in capsys.readouterr().out
    card = (tmp_path / "run" / "adapter" / "README.md").read_text(encoding="utf-8")
    for words in (
        "| pairs | 12 of",
        "| reference | `other` |",
        "| learning_rate | 3.0 |",
        "held-out loss",
    ):
        assert words in card
    assert str(tmp_path) not in card and str(tiny.folder) not in card  # it leaves this machine
    assert (tmp_path / "run" / "adapter" / "training.png").is_file() and "(training.png)" in card


BAD_ROWS = {
    "empty data": ([], "holds no rows"),
    "missing column": ([{"prompt": HISTORY}], "has no chosen, rejected; its columns: prompt"),
    "roles": ([{"prompt": HISTORY[1:], "chosen": [], "rejected": []}], "user and assistant alternate"),
    "emotion": (
        [{"prompt": [{"role": "user", "content": {"emotion": "joy", "dialog": "Hi ."}}], "chosen": [], "rejected": []}],
        "emotion is 'joy'; allowed: neutral",
    ),
}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_bad_rows_end_with_status_2_and_nothing_written(case, tiny, tmp_path):
    rows, words = BAD_ROWS[case]
    dataset = {"path": write_rows(tmp_path / "rows.jsonl", rows)}
    done = run_script("fine_tune_dpo.py", tiny.dpo(tmp_path / "run", dataset=dataset), tmp_path)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()


def test_an_adapter_of_another_base_ends_with_status_2_and_nothing_written(tiny, tmp_path):
    write_tiny_base(tmp_path / "wide", hidden=128)
    done = run_script("fine_tune_dpo.py", tiny.dpo(tmp_path / "run", base_model=str(tmp_path / "wide")), tmp_path)
    assert done.returncode == 2, done.stderr
    assert "made for another base model" in done.stderr
    assert not (tmp_path / "run").exists()
