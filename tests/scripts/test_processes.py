"""Two processes on the CPU, started as a user starts them: the losses of one, one writer, resumption, refusals."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from conftest import ROOT, losses, read_json, read_lines
from script_process import HANG_SECONDS
from script_runs import run_script, script_environment, start_two_processes
from test_interruptions import logged, once

BIN = Path(sys.executable).parent
TORCHRUN = [str(BIN / "torchrun"), "--standalone", "--nproc_per_node", "2"]
ACCELERATE = [
    *(str(BIN / "accelerate"), "launch", "--config_file", str(ROOT / "args" / "accelerate" / "one_machine.yaml")),
    *("--num_processes", "2", "--main_process_port", "0"),  # 0: a free one
]


def args(tiny, run: Path, batch: int, **dpo) -> dict:
    """A run in fp32 on 4-bit weights: two processes sum in another order than one, and bf16 would round that away. Of
    five held-out pairs, one is left over after a batch of four, or of two in each process."""
    values = tiny.dpo(run)
    values["eval_dataset"]["limit"] = 5
    values["from_pretrained"]["dtype"] = "float32"
    values["dpo"] |= {"bf16": False, "num_train_epochs": 4} | dpo
    values["dpo"] |= {"per_device_train_batch_size": batch, "per_device_eval_batch_size": batch}
    return values


def launched(launcher: list[str], values: dict, folder: Path, script: str = "fine_tune_dpo.py") -> subprocess.Popen:
    file = folder / "args.json"
    file.write_text(json.dumps(values), encoding="utf-8")
    return subprocess.Popen(
        [*launcher, str(ROOT / script), "--json_file", str(file)],
        cwd=folder,
        env=script_environment() | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def alone(tiny, tmp_path_factory):
    """The run of one process."""
    folder = tmp_path_factory.mktemp("alone")
    values = args(tiny, folder / "run", batch=4, train_sampling_strategy="group_by_length")
    assert run_script("fine_tune_dpo.py", values, folder).returncode == 0
    return folder / "run"


def test_two_processes_have_the_losses_of_one_and_resume(alone, tiny, tmp_path):
    """With shared prompts, where the one has TRL's layout. Stopped in the second epoch by a signal to one of the two,
    then run to the end by torchrun; test_evaluate.py has accelerate."""
    values = args(tiny, tmp_path / "run", batch=2, train_sampling_strategy="group_by_length", shared_prefix=True)
    values["sample_replies"] = {"every_steps": 4, "prompts": 2, "max_new_tokens": 6}
    first = start_two_processes("fine_tune_dpo.py", values, tmp_path)
    once(logged(tmp_path / "run", 4), first[0])
    first[1].send_signal(signal.SIGTERM)
    assert [process.wait() for process in first] == [130, 130]
    assert "is saved; run the same command again to continue from it" in first[0].read_stderr()
    saved = [folder.name for folder in (tmp_path / "run").glob("checkpoint-*")]
    assert saved and not (tmp_path / "run" / "adapter").exists()

    second = launched(TORCHRUN, values, tmp_path)
    out, said = second.communicate(timeout=HANG_SECONDS)
    assert second.returncode == 0, said
    assert out.count("resuming from") == out.count("done: the adapter is in") == 1  # only the main process prints
    assert losses(tmp_path / "run") == pytest.approx(losses(alone), abs=1e-4)
    together, single = (read_json(run / "metrics.json") for run in (tmp_path / "run", alone))
    evaluated = [name for name in single if name.startswith("eval_")]
    assert {"eval_loss", "eval_rewards/margins", "eval_logps/chosen", "eval_entropy"} < set(evaluated)
    for name in ("train_loss", "last_quarter/rewards/margins", "initial_loss", *evaluated):
        assert together[name] == pytest.approx(single[name], abs=1e-3), name
    assert [entry["step"] for entry in read_lines(tmp_path / "run" / "log.jsonl")] == list(range(1, 13))
    written = [(row["step"], row["model"]) for row in read_lines(tmp_path / "run" / "samples.jsonl")]
    assert written == [(0, "policy")] * 2 + [(0, "reference")] * 2 + [(step, "policy") for step in (4, 4, 8, 8, 12, 12)]
    facts = read_json(tmp_path / "run" / "environment.json")
    assert (facts["processes"], facts["model"]["four_bit"], facts["batch_layout"]) == (2, True, "shared prefix")
    assert read_json(alone / "environment.json")["batch_layout"] == "TRL"


@pytest.mark.parametrize(
    ("environment", "dpo", "name"),
    [
        ({"ACCELERATE_USE_FSDP": "true"}, {}, "FSDP"),
        ({"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": "3"}, {}, "DeepSpeed ZeRO-3"),
        ({}, {"deepspeed": "zero3.json"}, "DeepSpeed"),
    ],
)
def test_splitting_the_model_is_refused_by_name(tiny, tmp_path, environment, dpo, name):
    file = tmp_path / "args.json"
    values = tiny.dpo(tmp_path / "run")
    values["dpo"] |= dpo
    file.write_text(json.dumps(values), encoding="utf-8")
    command = [sys.executable, str(ROOT / "fine_tune_dpo.py"), "--json_file", str(file)]
    environment = script_environment() | environment
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert f"{name} does not work with unsloth and a frozen 4-bit base model; use DDP" in done.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("name", "machines"), [("one_machine", 1), ("several_machines", 2)])
def test_the_documented_configurations_are_accelerates(name, machines):
    config = load_config_from_file(str(ROOT / "args" / "accelerate" / f"{name}.yaml"))
    assert (config.distributed_type, config.num_machines) == ("MULTI_GPU", machines)
