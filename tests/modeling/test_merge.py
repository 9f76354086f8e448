"""The export writes a model that equals base + adapter, or writes nothing."""

import json
import resource

import pytest
import torch
from peft import PeftModel
from script_runs import run_script
from tiny_models import write_tiny_adapter
from transformers import AutoModelForCausalLM, AutoTokenizer

from response_generator import export
from response_generator.config.training_schema import DPOArguments
from response_generator.config.validation import validate_arguments
from response_generator.errors import InputError, RunError
from response_generator.modeling import merge


def build_arguments(tiny, tmp_path, **section) -> DPOArguments:
    values = tiny.dpo(tmp_path / "run", export={"path": str(tmp_path / "merged")} | section)
    return validate_arguments(DPOArguments, values, "args.json")


def compute_logits(model, ids: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(input_ids=ids).logits.float()


def test_changed_configuration_fields_are_in_the_export(tiny, tmp_path):
    arguments = build_arguments(tiny, tmp_path)
    loading = arguments.from_pretrained | {"rms_norm_eps": 0.25}
    merge.merge_adapter(arguments.model_copy(update={"from_pretrained": loading}), tiny.folder / "adapter")
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
    message = merge.merge_adapter(build_arguments(tiny, tmp_path, dtype=dtype), tiny.folder / "adapter")
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
        merge.merge_adapter(build_arguments(tiny, tmp_path), tiny.folder / "adapter")
    assert not list(tmp_path.iterdir())


def test_a_merge_with_the_wrong_scale_is_refused(tiny, tmp_path, monkeypatch):
    from peft.tuners.lora import Linear

    original = Linear.get_delta_weight
    monkeypatch.setattr(Linear, "get_delta_weight", lambda self, adapter: original(self, adapter) / 2)
    with pytest.raises(RunError, match="differs from base . adapter"):
        merge.merge_adapter(build_arguments(tiny, tmp_path), tiny.folder / "adapter")


def test_an_adapter_that_is_not_lora_is_refused(tiny, tmp_path):
    write_tiny_adapter(tiny.folder / "base", tmp_path / "other")
    config = json.loads((tmp_path / "other" / "adapter_config.json").read_text(encoding="utf-8"))
    (tmp_path / "other" / "adapter_config.json").write_text(json.dumps(config | {"peft_type": "LOHA"}))
    with pytest.raises(InputError, match="peft_type is 'LOHA'; allowed: LORA"):
        merge.merge_adapter(build_arguments(tiny, tmp_path), tmp_path / "other")


def test_export_errors_are_found_without_loading(tiny, tmp_path):
    quantized = tmp_path / "quantized"
    quantized.mkdir()
    (quantized / "config.json").write_text(json.dumps({"quantization_config": {"quant_method": "bitsandbytes"}}))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    cases = {
        "is pre-quantized; name its 16-bit original in export.base_model": {"base_model": str(quantized)},
        "already exists; name a new or an empty folder": {"path": str(tmp_path / "full")},
        "would mix with the files of the run": {"path": str(tmp_path / "run" / "adapter" / "merged")},
    }
    for expected, section in cases.items():
        (message,) = merge.find_export_errors(build_arguments(tiny, tmp_path, **section))
        assert expected in message
    assert merge.find_export_errors(build_arguments(tiny, tmp_path)) == []
    assert merge.find_export_errors(build_arguments(tiny, tmp_path).model_copy(update={"export": None})) == []


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


def test_the_script_refuses_an_export_into_an_existing_folder(tiny, tmp_path):
    done = run_script("fine_tune_dpo.py", tiny.dpo(tmp_path / "run", export={"path": str(tiny.folder)}), tmp_path)
    assert done.returncode == 2
    assert "export.path:" in done.stderr and "already exists" in done.stderr
    assert not (tmp_path / "run").exists()
