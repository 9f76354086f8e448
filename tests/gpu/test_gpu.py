"""What only a card can show: `make test-gpu`. The scripts run as a user runs them, in processes that see the card."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import ROOT, STEPS, VISIBLE_DEVICES, losses, published_dpo, read_json, read_lines
from safetensors.torch import load_file
from script_runs import run_script, script_environment
from test_interruptions import logged, once
from tiny_models import write_tiny_adapter

from response_generator.modeling.adapter_file import AdapterFile

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not Path("/dev/nvidiactl").exists(), reason="no NVIDIA card here"),
]
CARD_MEMORY_GB = 24


def environment() -> dict[str, str]:
    seen = {name: value for name, value in script_environment().items() if name != "CUDA_VISIBLE_DEVICES"}
    return seen if VISIBLE_DEVICES == "all" else seen | {"CUDA_VISIBLE_DEVICES": VISIBLE_DEVICES}


def start(script: str, values: dict, folder: Path, *options: str, **variables: str) -> subprocess.Popen:
    file = folder / "args.json"
    file.write_text(json.dumps(values), encoding="utf-8")
    return subprocess.Popen(
        [sys.executable, str(ROOT / script), "--json_file", str(file), *options],
        cwd=folder,
        env=environment() | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen) -> str:
    out, said = process.communicate(timeout=3000)
    assert process.returncode == 0, said
    return out


@pytest.fixture(scope="module")
def on_card(tiny, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("card")
    finish(start("fine_tune_dpo.py", tiny.dpo(folder / "run"), folder))
    return folder / "run"


def test_import_of_unsloth_installs_its_compiled_trainer_and_patching_again_changes_nothing(tmp_path):
    code = (
        "import unsloth, trl; before = trl.DPOTrainer; unsloth.PatchDPOTrainer(); "
        "assert trl.DPOTrainer is before, 'patched anew'; print(before.__name__)"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "UnslothDPOTrainer"


def test_four_bit_weights_train_on_the_card(on_card):
    model = read_json(on_card / "environment.json")["model"]
    assert model["four_bit"] and model["device"].startswith("cuda")
    metrics = read_json(on_card / "metrics.json")
    assert metrics["initial_loss"] == pytest.approx(0.6931, abs=2e-3)
    assert losses(on_card)[-1] < 0.6


def test_flash_attention_is_used_where_it_is_installed(on_card):
    installed = [name for name in ("flash_attn", "xformers") if importlib.util.find_spec(name)]
    expected = {"flash_attn": "flash_attention_2", "xformers": "xformers"}[installed[0]] if installed else "sdpa"
    assert read_json(on_card / "environment.json")["model"]["attention"] == expected


def test_unsloth_chooses_the_attention_and_the_run_says_so(on_card, tiny, tmp_path):
    values = tiny.dpo(tmp_path / "run")
    values["from_pretrained"]["attn_implementation"] = "eager"
    out = finish(start("fine_tune_dpo.py", values, tmp_path))
    used = read_json(on_card / "environment.json")["model"]["attention"]
    assert read_json(tmp_path / "run" / "environment.json")["model"]["attention"] == used
    assert f"attn_implementation: unsloth does not take eager for this model; using {used}" in out


# The script, with a count of the passes through the first layer in training, those for backward alone included.
COUNTING = """
import runpy, sys
from response_generator.modeling.backend import import_backend
import_backend("unsloth")
from response_generator.modeling import loading

passes, load_policy = [], loading.load_policy

def counted(*args):
    policy = load_policy(*args)
    layer = policy.get_base_model().model.layers[0]
    layer.register_forward_pre_hook(lambda layer, _: passes.append(1) if layer.training else None)
    return policy

loading.load_policy = counted
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    print("passes", sum(passes))
"""


@pytest.mark.parametrize(("checkpointing", "passes_a_step"), [(False, 2), (True, 3)])
def test_gradient_checkpointing_is_what_the_args_say(checkpointing, passes_a_step, tiny, tmp_path):
    values = tiny.dpo(tmp_path / "run")
    values["dpo"]["gradient_checkpointing"] = checkpointing
    (tmp_path / "args.json").write_text(json.dumps(values), encoding="utf-8")
    code = f"import sys; sys.argv = [{str(ROOT / 'fine_tune_dpo.py')!r}, '--json_file', 'args.json']\n{COUNTING}"
    command, seen = [sys.executable, "-c", code], environment() | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=seen, capture_output=True, text=True, check=False)
    # The policy's passes and the reference's in each of 6 steps.
    assert f"passes {passes_a_step * STEPS}" in done.stdout, done.stderr


def test_shared_prompts_start_at_the_loss_of_trls_layout(on_card, tiny, tmp_path):
    values = tiny.dpo(tmp_path / "run")
    values["dpo"]["shared_prefix"] = True
    out = finish(start("fine_tune_dpo.py", values, tmp_path))
    assert read_json(tmp_path / "run" / "environment.json")["batch_layout"] == "shared prefix", out
    # At a learning rate of 1e-2 in bf16, rounding grows from step to step.
    assert losses(tmp_path / "run")[0] == pytest.approx(losses(on_card)[0], abs=2e-2)
    assert losses(tmp_path / "run")[-1] < 0.6


def test_a_stopped_run_resumes(on_card, tiny, tmp_path):
    process = start("fine_tune_dpo.py", tiny.dpo(tmp_path / "run"), tmp_path)
    once(logged(tmp_path / "run", 1), process)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=300)
    assert process.returncode == 130
    finish(start("fine_tune_dpo.py", tiny.dpo(tmp_path / "run"), tmp_path))
    # The card's kernels do not sum in a fixed order.
    assert losses(tmp_path / "run") == pytest.approx(losses(on_card), abs=2e-2)


def test_the_trained_adapter_is_evaluated_on_the_card(on_card, tiny, tmp_path):
    values = tiny.evaluate(tmp_path / "run", adapter=str(on_card / "adapter"))
    finish(start("evaluate.py", values, tmp_path))
    assert read_json(tmp_path / "run" / "environment.json")["model"]["device"].startswith("cuda")
    # Sampled replies differ between devices; how likely the gold replies are must not, but for rounding in 16 bits.
    done = run_script("evaluate.py", values | {"output_dir": str(tmp_path / "cpu")}, tmp_path)
    assert done.returncode == 0, done.stderr
    on_both = [
        [row["gold_logp"] for row in read_lines(tmp_path / name / "predictions.jsonl")] for name in ("run", "cpu")
    ]
    assert on_both[0] == pytest.approx(on_both[1], rel=0.03)


def test_an_adapter_with_embedding_tables_trains_resumes_starts_another_run_and_is_evaluated(tiny, published, tmp_path):
    """The published run's shape: bf16 base in 4 bits, all projections, both tables, the authors' tokens."""
    values = published_dpo(tiny, published, tmp_path / "run", "adapter_two_tables", num_train_epochs=2)
    process = start("fine_tune_dpo.py", values, tmp_path)
    once(logged(tmp_path / "run", 1), process)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=300)
    assert process.returncode == 130
    finish(start("fine_tune_dpo.py", values, tmp_path))
    adapter = tmp_path / "run" / "adapter"
    held = load_file(adapter / "adapter_model.safetensors")
    assert {tensor.dtype for name, tensor in held.items() if ".lora_" not in name} == {torch.float32}
    assert set(held) == set(AdapterFile.read(published / "adapter_two_tables").shapes)
    second = values | {"adapter": str(adapter), "output_dir": str(tmp_path / "second")}
    finish(start("fine_tune_dpo.py", second, tmp_path))
    assert read_json(tmp_path / "second" / "metrics.json")["initial_loss"] == pytest.approx(0.6931, abs=2e-3)
    shared = {key: values[key] for key in ("base_model", "from_pretrained", "chat_template")}
    both = {"adapter": str(adapter), "baseline_adapter": values["adapter"]}
    finish(start("evaluate.py", tiny.evaluate(tmp_path / "evaluation", **shared, **both), tmp_path))


def test_two_adapters_on_different_layers_are_refused(on_card, tiny, tmp_path):
    write_tiny_adapter(tiny.folder / "base", tmp_path / "other", target_modules=["q_proj", "up_proj"])
    values = tiny.evaluate(tmp_path / "run", adapter=tiny.adapter, baseline_adapter=str(tmp_path / "other"))
    process = start("evaluate.py", values, tmp_path)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 2
    assert "are not on the same layers" in said
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif("RUN_PUBLISHED" not in os.environ, reason="downloads 4 GB: set RUN_PUBLISHED=1")
def test_the_published_run_fits_a_card_of_24_gb(tmp_path):
    values = read_json(ROOT / "args" / "dpo_arg.json") | {"output_dir": str(tmp_path / "run")}
    values["chat_template"]["file"] = str(ROOT / values["chat_template"]["file"])
    values["dpo"] |= {
        "max_steps": 5,
        "logging_steps": 1,
        "train_sampling_strategy": "group_by_length",
    }  # begins with the longest batch
    values["wandb"]["mode"] = "disabled"
    finish(start("fine_tune_dpo.py", values, tmp_path))
    assert read_json(tmp_path / "run" / "metrics.json")["peak_memory_gb"] < CARD_MEMORY_GB
