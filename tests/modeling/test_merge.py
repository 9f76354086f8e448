"""The export writes a model that equals base + adapter, or writes nothing."""

import contextlib
import json
import multiprocessing
import os
import resource
import shutil
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
import torch
from peft import PeftModel
from script_process import ScriptProcess
from script_runs import run_script, script_environment
from test_interruptions import once
from tiny_models import write_tiny_adapter, write_tiny_base
from transformers import AutoModelForCausalLM, AutoTokenizer

from response_generator import export
from response_generator.config.training_schema import DPOArguments
from response_generator.config.validation import validate_arguments
from response_generator.errors import InputError, RunError
from response_generator.modeling import merge, merged_model
from response_generator.runs.run_folder import RunFolder


def build_arguments(tiny, tmp_path, **section) -> DPOArguments:
    values = tiny.dpo(tmp_path / "run", export={"path": str(tmp_path / "merged")} | section)
    return validate_arguments(DPOArguments, values, "args.json")


def compute_logits(model, ids: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(input_ids=ids).logits.float()


def test_changed_configuration_fields_are_in_the_export(tiny, tmp_path):
    arguments = build_arguments(tiny, tmp_path)
    loading = arguments.from_pretrained | {"rms_norm_eps": 0.25}
    arguments = arguments.model_copy(update={"from_pretrained": loading})
    merged_model.merge_adapter(arguments, tiny.folder / "adapter", tmp_path / "merged")
    assert json.loads((tmp_path / "merged" / "config.json").read_text(encoding="utf-8"))["rms_norm_eps"] == 0.25


def test_a_failed_write_is_reported_and_leaves_no_files(tiny, tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(RunError, match="export: .*the adapter is saved in .*; to export again: python -m"):
            merge.merge_in_subprocess(build_arguments(tiny, tmp_path), tiny.folder / "adapter")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_the_merged_model_equals_base_plus_adapter(tiny, tmp_path, dtype):
    arguments = build_arguments(tiny, tmp_path, dtype=dtype)
    message = merged_model.merge_adapter(arguments, tiny.folder / "adapter", tmp_path / "merged")
    assert message.startswith(f"export: {tmp_path / 'merged'}: 0.00 GB in {dtype}")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    assert {weight.dtype for weight in merged.parameters()} == {getattr(torch, dtype)}
    assert (tmp_path / "merged" / "model.safetensors").is_file()
    assert not list((tmp_path / "merged").glob("adapter*"))
    base = AutoModelForCausalLM.from_pretrained(tiny.base, dtype=torch.float32)
    ids = torch.tensor([AutoTokenizer.from_pretrained(tmp_path / "merged")("Thank you .")["input_ids"]])
    base_logits = compute_logits(base, ids)
    expected = compute_logits(PeftModel.from_pretrained(base, tiny.adapter), ids)
    merged_logits = compute_logits(merged.float(), ids)
    assert (expected - merged_logits).abs().mean() < 0.02 * (expected - base_logits).abs().mean()
    assert [path.name for path in tmp_path.iterdir()] == ["merged"]


def test_a_merge_without_the_adapter_is_refused(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(PeftModel, "merge_and_unload", lambda self, **_: self.unload(), raising=False)
    with pytest.raises(RunError, match="differs from base . adapter: .* was not written"):
        merged_model.merge_adapter(build_arguments(tiny, tmp_path), tiny.folder / "adapter", tmp_path / "merged")


def test_a_merge_with_the_wrong_scale_is_refused(tiny, tmp_path, monkeypatch):
    from peft.tuners.lora import Linear

    original = Linear.get_delta_weight
    monkeypatch.setattr(Linear, "get_delta_weight", lambda self, adapter: original(self, adapter) / 2)
    with pytest.raises(RunError, match="differs from base . adapter"):
        merged_model.merge_adapter(build_arguments(tiny, tmp_path), tiny.folder / "adapter", tmp_path / "merged")


def test_an_adapter_that_is_not_lora_is_refused(tiny, tmp_path):
    write_tiny_adapter(tiny.folder / "base", tmp_path / "other")
    config = json.loads((tmp_path / "other" / "adapter_config.json").read_text(encoding="utf-8"))
    (tmp_path / "other" / "adapter_config.json").write_text(json.dumps(config | {"peft_type": "LOHA"}))
    with pytest.raises(InputError, match="peft_type is 'LOHA'; allowed: LORA"):
        merged_model.merge_adapter(build_arguments(tiny, tmp_path), tmp_path / "other", tmp_path / "merged")


def test_export_errors_are_found_without_loading(tiny, tmp_path):
    quantized = tmp_path / "quantized"
    quantized.mkdir()
    (quantized / "config.json").write_text(json.dumps({"quantization_config": {"quant_method": "bitsandbytes"}}))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    cases = {
        "already exists": {"path": str(tmp_path / "loop")},
        "cannot be written": {"path": str(tmp_path / "loop" / "merged")},
        "is pre-quantized; name its 16-bit original in export.base_model": {"base_model": str(quantized)},
        "already exists; name a new or an empty folder": {"path": str(tmp_path / "full")},
        "would mix with the files of the run": {"path": str(tmp_path / "run" / "adapter" / "merged")},
    }
    for expected, section in cases.items():
        (message,) = merge.find_export_errors(build_arguments(tiny, tmp_path, **section))
        assert expected in message
    assert merge.find_export_errors(build_arguments(tiny, tmp_path)) == []
    assert merge.find_export_errors(build_arguments(tiny, tmp_path).model_copy(update={"export": None})) == []


def test_another_base_model_than_that_of_the_training_is_refused(tiny, tmp_path):
    base = shutil.copytree(tiny.base, tmp_path / "base")
    arguments = build_arguments(tiny, tmp_path).model_copy(update={"base_model": str(base)})
    run = RunFolder.of(arguments, {"base_model": str(base)})
    run.start()
    shutil.copytree(tiny.adapter, run.path / "adapter")
    assert export.read_run(run.path, []).base_model == str(base)
    write_tiny_base(base, hidden=32)
    with pytest.raises(InputError, match="^base_model: .*model.safetensors changed since .*--set export.base_model="):
        export.read_run(run.path, [])
    assert export.read_run(run.path, [f"export.base_model={tiny.base}"])
    shutil.rmtree(base)
    with pytest.raises(InputError, match="^base_model: .*/base: no such file or folder"):
        export.read_run(run.path, [])


def test_a_finished_run_can_be_exported(tiny, tmp_path, trained):
    run, _ = trained
    arguments = export.read_run(run, [f"export.path={tmp_path / 'merged'}"])
    assert merge.merge_in_subprocess(arguments, run / "adapter") == tmp_path / "merged"
    with pytest.raises(InputError, match="already exists"):
        export.read_run(run, [f"export.path={tmp_path / 'merged'}"])
    with pytest.raises(InputError, match="name a folder: --set export.path=FOLDER"):
        export.read_run(run, [])
    with pytest.raises(InputError, match="allowed: keys of the section export"):
        export.read_run(run, ["dpo.beta=1"])
    with pytest.raises(InputError, match="holds no args.json"):
        export.read_run(tmp_path, [])


@pytest.fixture
def waiting_template(tmp_path):
    """A chat template that is a pipe, so that an export waits for its content; and a function that opens it once the
    export has done so."""
    os.mkfifo(tmp_path / "template.jinja")

    def open_to_write() -> int | None:
        with contextlib.suppress(OSError):  # nobody reads yet
            return os.open(tmp_path / "template.jinja", os.O_WRONLY | os.O_NONBLOCK)

    return tmp_path / "template.jinja", open_to_write


def test_a_killed_worker_leaves_nothing_and_is_reported(tiny, tmp_path, waiting_template):
    template, open_to_write = waiting_template
    arguments = build_arguments(tiny, tmp_path / "run")
    chat_template = arguments.chat_template.model_copy(update={"file": str(template)})
    arguments = arguments.model_copy(update={"chat_template": chat_template})

    def kill_worker() -> list[str]:
        while (descriptor := open_to_write()) is None:
            for worker in multiprocessing.active_children():
                worker.join(0.005)
        written = [path.name for path in (tmp_path / "run").iterdir()]
        multiprocessing.active_children()[0].kill()
        os.close(descriptor)
        return written

    with ThreadPoolExecutor(1) as pool:
        written = pool.submit(kill_worker)
        with pytest.raises(RunError, match="export: the system ended its process.*; to export again: python -m resp"):
            merge.merge_in_subprocess(arguments, tiny.folder / "adapter")
    assert len(written.result()) == 1
    assert not list((tmp_path / "run").iterdir())


def test_a_stopped_export_ends_at_once_and_says_what_is_finished(tmp_path, trained, waiting_template):
    """SIGTERM to the program alone; its worker, which waits for the template, would never end."""
    template, open_to_write = waiting_template
    run = tmp_path / "a run"
    shutil.copytree(trained[0], run)
    values = json.loads((run / "args.json").read_text(encoding="utf-8"))
    values["chat_template"]["file"] = str(template)
    (run / "args.json").write_text(json.dumps(values), encoding="utf-8")
    target = f"export.path={tmp_path / 'merged'}"
    process = ScriptProcess("response_generator/export.py", [str(run), "--set", target], tmp_path, script_environment())
    opened = []
    once(lambda: opened.append(open_to_write()) or opened[-1], process)
    (worker,) = (child for child in psutil.Process(process.pid).children() if "spawn_main" in " ".join(child.cmdline()))
    process.terminate()
    assert process.wait() == 130
    assert process.read_stderr().splitlines()[-1] == (
        f"interrupted: the adapter is finished, in {run / 'adapter'}; the export is not; to export: "
        f"python -m response_generator.export '{run}' --set {target}"
    )
    assert not worker.is_running()
    assert {path.name for path in tmp_path.iterdir()} == {"a run", "template.jinja"}
    os.close(opened[-1])


def test_the_script_refuses_an_export_into_an_existing_folder(tiny, tmp_path):
    done = run_script("fine_tune_dpo.py", tiny.dpo(tmp_path / "run", export={"path": str(tiny.folder)}), tmp_path)
    assert done.returncode == 2
    assert "export.path:" in done.stderr and "already exists" in done.stderr
    assert not (tmp_path / "run").exists()
