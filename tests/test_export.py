"""The merged model is base + adapter to what rounding explains; any other merge is found and leaves nothing behind."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import CHATML, ROOT, script_environment, write_tiny_adapter, write_tiny_base
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from response_generator import export, model
from response_generator.arguments import DPOArguments
from response_generator.errors import InputError, TrainingError

DEMO_BASE = ROOT / "assets" / "base_model"


def arguments_of(tiny, folder: Path, **changes) -> DPOArguments:
    """Of a run in `folder`/run that is exported to `folder`/merged."""
    values = tiny.dpo(folder / "run", export={"path": str(folder / "merged")})
    return DPOArguments(**{**values, **changes})


def to(path: Path, **changes) -> dict:
    return {"export": {"path": str(path), **changes}}


@pytest.fixture(scope="session")
def finished(trained) -> Path:
    """The folder of a run that has trained an adapter on a base in 4 bits."""
    folder, _ = trained
    assert json.loads((folder / "environment.json").read_text(encoding="utf-8"))["model"]["four_bit"]
    return folder


def difference(merged: Path, base: str, adapter: Path) -> float:
    """Mean KL divergence in fp32 between base + adapter and a merged folder, on tokens of no meaning."""
    ids = torch.randint(0, 500, (2, 32), generator=torch.Generator().manual_seed(0))
    loaded = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), adapter)
    with torch.no_grad():
        expected = loaded.eval()(input_ids=ids).logits.log_softmax(-1)
        found = AutoModelForCausalLM.from_pretrained(merged, dtype=torch.float32)(input_ids=ids).logits.log_softmax(-1)
    return (expected.exp() * (expected - found)).sum(-1).mean().item()


def test_what_a_4_bit_base_trained_is_merged_into_its_16_bit_original(tiny, finished, tmp_path, capfd):
    arguments = arguments_of(tiny, tmp_path, chat_template={"file": "lost since"})  # the adapter has brought a copy
    assert export.merge(arguments, finished / "adapter") == tmp_path / "merged"
    assert [file.name for file in tmp_path.iterdir()] == ["merged"]
    weights = load_file(tmp_path / "merged" / "model.safetensors")
    assert {weight.dtype for weight in weights.values()} == {torch.bfloat16}
    assert set(weights) == set(load_file(Path(tiny.base, "model.safetensors")))
    assert "quantization_config" not in json.loads((tmp_path / "merged" / "config.json").read_text(encoding="utf-8"))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "merged")
    assert tokenizer.chat_template == Path(CHATML).read_text(encoding="utf-8")
    assert difference(tmp_path / "merged", tiny.base, finished / "adapter") < 2e-3
    assert difference(Path(tiny.base), tiny.base, finished / "adapter") > 0.5
    out = capfd.readouterr().out
    assert out.startswith(f"export: {tmp_path / 'merged'}: 0.00 GB in bfloat16; log-probabilities differ")


def test_a_finished_run_is_exported_again_from_its_folder(tiny, finished, tmp_path):
    command = [sys.executable, "-m", "response_generator.export", str(finished)]
    command += ["--set", f"export.path={tmp_path / 'again'}", "--set", "export.dtype=float16"]
    environment = script_environment() | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "0.00 GB in float16" in done.stdout
    assert difference(tmp_path / "again", tiny.base, finished / "adapter") < 2e-5
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert (
        done.stderr == f"error: export.path: {tmp_path / 'again'}: is not empty; name a new folder, or an empty one\n"
    )


def base_alone(adapted):
    return adapted.unload()


def scaled(adapted):
    for layer in lora_layers(adapted):
        layer.scaling[model.TRAINED] *= 1.1
    return adapted.merge_and_unload()


def all_but_one_layer(adapted):
    lora_layers(adapted)[0].scaling[model.TRAINED] = 0.0
    return adapted.merge_and_unload()


def in_eight_bits(adapted):
    merged = adapted.merge_and_unload()
    for weight in merged.parameters():
        weight.data = weight.data.to(torch.float8_e4m3fn).to(torch.bfloat16)
    return merged


def lora_layers(adapted) -> list:
    return [module for module in adapted.modules() if isinstance(getattr(module, "scaling", None), dict)]


WRONG = [base_alone, scaled, all_but_one_layer, in_eight_bits]


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_merge_is_found_and_nothing_is_left(tiny, finished, tmp_path, monkeypatch, wrong):
    monkeypatch.setattr(export, "merged_model", wrong)
    with pytest.raises(
        TrainingError, match=r"not base \+ adapter: .* rounding to bfloat16 explains .* was not written"
    ):
        export.merge_here(arguments_of(tiny, tmp_path), finished / "adapter")
    assert not list(tmp_path.iterdir())


def small_adapter(source: str, folder: Path, factor: float) -> Path:
    """An adapter whose updates are `factor` times those of another."""
    folder.mkdir()
    (folder / "adapter_config.json").write_bytes(Path(source, "adapter_config.json").read_bytes())
    weights = load_file(Path(source, "adapter_model.safetensors"))
    changed = {name: weight * factor if "lora_B" in name else weight for name, weight in weights.items()}
    save_file(changed, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    return folder


def test_updates_that_vanish_in_bfloat16_are_told_of_and_float16_keeps_them(tiny, tmp_path):
    adapter = small_adapter(tiny.adapter, tmp_path / "small", 0.003)
    with pytest.raises(TrainingError, match="bfloat16 is too coarse .* set export.dtype to float16"):
        export.merge_here(arguments_of(tiny, tmp_path), adapter)
    export.merge_here(arguments_of(tiny, tmp_path, **to(tmp_path / "merged", dtype="float16")), adapter)
    assert (tmp_path / "merged" / "model.safetensors").is_file()


def test_an_adapter_that_adds_nothing_is_merged(tiny, tmp_path):
    export.merge_here(arguments_of(tiny, tmp_path), small_adapter(tiny.adapter, tmp_path / "none", 0.0))
    merged, base = (load_file(Path(place, "model.safetensors")) for place in (tmp_path / "merged", tiny.base))
    assert all(torch.equal(merged[name], base[name]) for name in base)


@pytest.mark.parametrize(
    "lora",
    [{"use_dora": True}, {"use_rslora": True, "rank_pattern": {"q_proj": 2}}, {"target_modules": ["embed_tokens"]}],
)
def test_other_kinds_of_lora(tiny, tmp_path, lora):
    write_tiny_adapter_of(tiny, tmp_path / "adapter", **lora)
    export.merge_here(arguments_of(tiny, tmp_path), tmp_path / "adapter")
    assert difference(tmp_path / "merged", tiny.base, tmp_path / "adapter") < 2e-3


def write_tiny_adapter_of(tiny, folder: Path, **lora) -> None:
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(1)
    config = LoraConfig(
        **{
            "r": 4,
            "target_modules": ["q_proj", "down_proj"],
            "task_type": "CAUSAL_LM",
            "init_lora_weights": False,
            **lora,
        }
    )
    get_peft_model(AutoModelForCausalLM.from_pretrained(tiny.base), config).save_pretrained(folder)


def test_embeddings_of_added_tokens_and_the_tokenizers_ids_come_along(tiny, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(tiny.base)
    tokenizer.add_special_tokens({"additional_special_tokens": ["[MOOD]", "[/MOOD]"]})
    base = AutoModelForCausalLM.from_pretrained(tiny.base)
    base.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    base.generation_config.eos_token_id = base.generation_config.pad_token_id = 1
    base.save_pretrained(tmp_path / "larger")
    write_tiny_adapter(tmp_path / "larger", tmp_path / "adapter", modules_to_save=["embed_tokens", "lm_head"])
    tokenizer.save_pretrained(tmp_path / "adapter")
    larger = str(tmp_path / "larger")
    export.merge_here(arguments_of(tiny, tmp_path, base_model=larger), tmp_path / "adapter")
    resized = arguments_of(tiny, tmp_path, **to(tmp_path / "from smaller"))
    export.merge_here(resized, tmp_path / "adapter")
    smaller = load_file(tmp_path / "from smaller" / "model.safetensors")
    merged = load_file(tmp_path / "merged" / "model.safetensors")
    brought = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert len(merged["lm_head.weight"]) == len(tokenizer) == AutoConfig.from_pretrained(tmp_path / "merged").vocab_size
    (head,) = (weight for name, weight in brought.items() if "lm_head" in name)
    assert all(torch.equal(merged[name], smaller[name]) for name in merged)
    assert torch.equal(merged["lm_head.weight"], head.to(torch.bfloat16))
    generation = GenerationConfig.from_pretrained(tmp_path / "merged")
    assert (generation.eos_token_id, generation.pad_token_id) == (tokenizer.eos_token_id, tokenizer.pad_token_id)


def test_what_from_pretrained_says_of_the_base_is_exported(tiny, tmp_path):
    rope = {"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0}
    arguments = arguments_of(tiny, tmp_path)
    changed = {**arguments.from_pretrained, "rope_parameters": rope, "use_cache": False}
    export.merge_here(arguments.model_copy(update={"from_pretrained": changed}), Path(tiny.adapter))
    config = AutoConfig.from_pretrained(tmp_path / "merged")
    assert config.rope_parameters["factor"] == 4.0
    assert config.use_cache


def write_base_with(tiny, folder: Path, values: float) -> None:
    base = AutoModelForCausalLM.from_pretrained(tiny.base)
    for layer in base.model.layers:
        layer.mlp.down_proj.weight.data *= values
    base.save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny.base).save_pretrained(folder)


def test_numbers_that_float16_does_not_hold(tiny, tmp_path):
    write_base_with(tiny, tmp_path / "large", 1e4)
    arguments = arguments_of(tiny, tmp_path, base_model=str(tmp_path / "large"), **to(tmp_path / "m", dtype="float16"))
    with pytest.raises(TrainingError, match="float16 is too narrow"):
        export.merge_here(arguments, Path(tiny.adapter))


def test_a_broken_adapter_is_not_merged(tiny, tmp_path):
    adapter = small_adapter(tiny.adapter, tmp_path / "nan", float("nan"))
    with pytest.raises(TrainingError, match="NaNs detected"):
        export.merge_here(arguments_of(tiny, tmp_path), adapter)


class Killed:
    """Ends the process that unpickles it, as the system ends one that takes too much memory."""

    def __reduce__(self):
        return os._exit, (9,)


def test_the_process_may_die_and_the_words_tell_how_to_go_on(tiny, finished, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "merge_here", Killed())
    with pytest.raises(TrainingError, match="ended from outside.* memory .*: python -m response_generator.export /"):
        export.merge(arguments_of(tiny, tmp_path), finished / "adapter")


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), TrainingError("export: too coarse")])
def test_every_failure_tells_how_to_go_on(tiny, finished, tmp_path, monkeypatch, failure):
    class Process:
        def __init__(self, *args, **kwargs):
            pass

        def submit(self, *args):
            return self

        __enter__ = submit

        def __exit__(self, *args):
            pass

        def result(self):
            raise failure

    monkeypatch.setattr(export, "ProcessPoolExecutor", Process)
    with pytest.raises(TrainingError, match=f"(No space|too coarse).*python -m response_generator.export {finished}$"):
        export.merge(arguments_of(tiny, tmp_path), finished / "adapter")


@pytest.mark.skipif(not DEMO_BASE.is_dir(), reason="the demo's base model is made by `make demo`")
def test_the_demo_adapter(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    values = json.loads((ROOT / "args" / "demo" / "dpo_arg.json").read_text(encoding="utf-8"))
    arguments = DPOArguments(**{**values, "output_dir": str(tmp_path / "run"), **to(tmp_path / "merged")})
    found = []
    monkeypatch.setattr(export, "check_differences", lambda arguments, differences: found.append(differences))
    for merge in (export.merged_model, all_but_one_layer):
        monkeypatch.setattr(export, "merged_model", merge)
        export.merge_here(arguments, ROOT / arguments.adapter)
        (tmp_path / "merged").rename(tmp_path / merge.__name__)
    right, wrong = found
    assert right.agree and right.keep_the_adapter
    assert not wrong.agree


def test_no_fault_where_all_is_well_or_nothing_is_asked_for(tiny, tmp_path):
    (tmp_path / "merged").mkdir()
    assert export.faults(arguments_of(tiny, tmp_path)) == []
    assert export.faults(arguments_of(tiny, tmp_path, export=None)) == []
    export.check_base(arguments_of(tiny, tmp_path, export=None))
    assert export.faults(arguments_of(tiny, tmp_path, **to(tmp_path / "a" / "b"))) == []
    assert export.faults(arguments_of(tiny, tmp_path, **to(tmp_path / "m", base_model="owner/name"))) == []
    assert [file.name for file in tmp_path.iterdir()] == ["merged"]


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("full", "is not empty"),
        ("full/file", "is a file"),
        ("full/file/merged", "cannot be written"),
        ("/proc/merged", "cannot be written"),
        ("run", "would mix with the files of the run; name a folder of its own, for example "),
        ("run/adapter/merged", "would mix with the files of the run"),
        (".", "would mix with the files of the run"),
    ],
)
def test_places_that_cannot_be_taken(tiny, tmp_path, place, words):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("", encoding="utf-8")
    (fault,) = export.faults(arguments_of(tiny, tmp_path, **to(tmp_path / place)))
    assert fault.startswith(f"export.path: {tmp_path / place}: {words}")


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"quantization_config": {"quant_method": "bitsandbytes"}}, "is pre-quantised (bitsandbytes); name its 16-bit"),
        ("{", "its config.json cannot be read"),
        (None, "no such file or folder; needed: a folder with config.json"),
    ],
)
def test_bases_that_nothing_can_be_merged_into(tiny, tmp_path, config, words):
    base = tmp_path / "base"
    if config is not None:
        base.mkdir()
        (base / "config.json").write_text(config if isinstance(config, str) else json.dumps(config), encoding="utf-8")
    (fault,) = export.faults(arguments_of(tiny, tmp_path, **to(tmp_path / "merged", base_model=str(base))))
    assert fault.startswith(f"export.base_model: {base}: {words}")


def test_a_quantised_base_model_needs_its_original(tiny, tmp_path):
    write_tiny_base(tmp_path / "base")
    config = tmp_path / "base" / "config.json"
    quantised = json.loads(config.read_text(encoding="utf-8")) | {"quantization_config": {"quant_method": "gptq"}}
    config.write_text(json.dumps(quantised), encoding="utf-8")
    arguments = arguments_of(tiny, tmp_path, base_model=str(tmp_path / "base"))
    expected = (
        f"base_model: {tmp_path / 'base'}: is pre-quantised (gptq); name its 16-bit original in export.base_model"
    )
    assert export.faults(arguments) == [expected]
    with pytest.raises(InputError) as raised:
        export.check_base(arguments)
    assert raised.value.faults == [expected]
    named = arguments_of(
        tiny, tmp_path, base_model=str(tmp_path / "base"), **to(tmp_path / "merged", base_model=tiny.base)
    )
    assert export.faults(named) == []
    export.check_base(named)


def test_an_original_of_another_size_is_refused_before_training(tiny, tmp_path):
    write_tiny_base(tmp_path / "wide", hidden=128)
    arguments = arguments_of(tiny, tmp_path, **to(tmp_path / "merged", base_model=str(tmp_path / "wide")))
    with pytest.raises(InputError, match="not the original of base_model: hidden_size is 128, in base_model 64"):
        export.check_base(arguments)


@pytest.mark.parametrize(
    ("assignments", "words"),
    [
        ([], "export.path: .*: would mix with the files of the run"),
        (["export.path=other", "dpo.beta=0.2"], "--set dpo.beta=0.2: allowed: keys of the section export"),
        (["export.dtype=int8"], "args.json: export.dtype: got 'int8'"),
    ],
)
def test_faults_of_an_export_from_a_run_folder(tiny, tmp_path, assignments, words):
    run = tmp_path / "run"
    (run / "adapter").mkdir(parents=True)
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (run / "adapter" / name).write_bytes(Path(tiny.adapter, name).read_bytes())
    values = arguments_of(tiny, tmp_path, **to(tmp_path)).model_copy(update={"output_dir": "moved"})
    (run / "args.json").write_text(json.dumps(values.model_dump(mode="json")), encoding="utf-8")
    with pytest.raises(InputError, match=words):
        export.read_run(run, assignments)


def test_a_folder_that_is_no_finished_run(tiny, tmp_path):
    with pytest.raises(InputError, match="RUN_FOLDER: .*: holds no args.json"):
        export.read_run(tmp_path, [])
    values = arguments_of(tiny, tmp_path, export=None).model_dump(mode="json")
    (tmp_path / "args.json").write_text(json.dumps(values), encoding="utf-8")
    with pytest.raises(InputError, match="export: null in args.json; say where to: --set export.path=FOLDER"):
        export.read_run(tmp_path, [])
    with pytest.raises(InputError, match="RUN_FOLDER: .*adapter: no such file or folder"):
        export.read_run(tmp_path, [f"export.path={tmp_path / 'new'}"])
