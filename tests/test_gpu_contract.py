"""What the GPU path promises, checked where there is no GPU: unsloth's compiled trainer, and every keyword we pass."""

import ast
import importlib
import inspect
import json
import subprocess
import sys

import peft
import pytest
import transformers
from conftest import ROOT, script_environment
from tiny_models import write_tiny_adapter

from response_generator import configuration
from response_generator.arguments import DPOArguments
from response_generator.validation import validated

# None of them is TRL's default, and none is unsloth's.
ASKED = {
    "learning_rate": 3e-3,
    "per_device_train_batch_size": 2,
    "gradient_accumulation_steps": 3,
    "optim": "adamw_torch",
    "weight_decay": 0.02,
    "max_grad_norm": 0.7,
    "lr_scheduler_type": "cosine",
    "logging_steps": 1,
    "num_train_epochs": 2,
    "max_length": 256,
    "beta": 0.2,
    "eval_strategy": "epoch",
    "save_strategy": "epoch",
    "bf16": True,  # as on a card, whatever this processor does well
}


@pytest.fixture(scope="module")
def compiled(tiny, tmp_path_factory):
    """`(args, what the process on unsloth's GPU code reports)`, with a reference from another adapter."""
    folder = tmp_path_factory.mktemp("compiled")
    write_tiny_adapter(tiny.folder / "base", folder / "other", seed=5)
    values = tiny.dpo(folder / "whole", reference_adapter=str(folder / "other"), dpo=ASKED, seed=7)
    (folder / "args.json").write_text(json.dumps(values), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "compiled_trainer.py"), "args.json"],
        cwd=folder,
        env=script_environment() | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return values, json.loads(done.stdout.splitlines()[-1])


def test_the_trainer_under_ours_is_unsloths_compiled_one(compiled):
    assert compiled[1]["trainers"][:3] == ["PreferenceTrainer", "UnslothDPOTrainer", "_UnslothDPOTrainer"]


def test_every_argument_is_the_one_of_the_cpu_path(compiled):
    """The args' own, and TRL's defaults for the rest: unsloth's are batch 4 x 2, 5e-5, adamw_8bit, seed 3407."""
    values, report = compiled
    expected = configuration.training_config(validated(DPOArguments, values, "args.json")).to_dict()
    config = report["whole"]["config"]
    # Where files go; a field of TRL's tokenising, which we do not use; unsloth's own checkpointing; the CPU backend's
    # choice of AdamW kernel, and its float32 on a processor without bfloat16.
    may_differ = {"output_dir", "dataset_num_proc", "gradient_checkpointing_kwargs", "optim", "bf16"}
    assert {name: config[name] for name in expected if name not in may_differ} == {
        name: str(value) for name, value in expected.items() if name not in may_differ
    }
    asked = ("learning_rate", "seed", "optim", "bf16")
    assert [config[name] for name in asked] == ["0.003", "7", "adamw_torch", "True"]


def test_policy_and_reference_are_the_named_adapters(compiled):
    report = compiled[1]["whole"]
    assert report["adapters"] == ["default", "ref"]
    assert report["trained"] and all(".default." in name for name in report["trained"])
    assert report["metrics"]["start_gap"] > 1  # another reference: checked against its file, bit by bit, in the process
    assert len(report["losses"]) == report["metrics"]["steps"] == 4
    assert report["dtypes"] == ["torch.float32"]  # after training and evaluating
    assert report["metrics"]["eval_loss"] > 0


def test_a_stopped_run_resumes_to_the_same_weights(compiled):
    report = compiled[1]
    assert "checkpoint-3 is saved; run the same command again" in report["stopped"]["interrupted"]
    assert report["resumed"]["losses"] == report["whole"]["losses"]
    assert report["resumed"]["weights"] == report["whole"]["weights"]


def test_the_gpu_loader_takes_what_we_give_it(compiled):
    signatures = compiled[1]["signatures"]
    published = json.loads((ROOT / "args" / "dpo_arg.json").read_text(encoding="utf-8"))["from_pretrained"]
    passed_on = {
        "attn_implementation",
        "pretraining_tp",
        "use_cache",
        "low_cpu_mem_usage",
    }  # to transformers, through **kwargs
    assert set(published) - passed_on <= set(signatures["from_pretrained"])
    assert signatures["from_pretrained"][0] == "model_name" and "kwargs" in signatures["from_pretrained"]
    assert signatures["patch_peft_model"][:2] == ["model", "use_gradient_checkpointing"]
    assert signatures["for_inference"][0] == "model"


LIBRARIES = ("transformers", "trl", "peft")
OWNERS = (
    transformers.PreTrainedModel,
    transformers.PreTrainedTokenizerBase,
    transformers.Trainer,
    transformers.GenerationMixin,
    peft.PeftModel,
)


def library_calls() -> list[tuple[str, str, list, set[str]]]:
    """`(place, name, callables it may be, keywords)` of every call with keywords that can reach one of the libraries:
    names imported from them, and methods that one of their classes has."""
    found = []
    for file in [*sorted((ROOT / "response_generator").rglob("*.py")), *ROOT.glob("*.py")]:
        tree = ast.parse(file.read_text(encoding="utf-8"))
        imported = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in LIBRARIES:
                module = importlib.import_module(node.module)
                imported |= {name.name: getattr(module, name.name) for name in node.names}
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            keywords = {keyword.arg for keyword in call.keywords if keyword.arg}
            callables = called(call.func, imported)
            if keywords and callables and ast.unparse(call.func) not in ("self.tracker.log", "self.run.log"):  # wandb's
                found.append((f"{file.name}:{call.lineno}", ast.unparse(call.func), callables, keywords))
    return found


def called(function: ast.expr, imported: dict) -> list:
    if isinstance(function, ast.Name):
        return [imported[function.id]] if function.id in imported else []
    if not isinstance(function, ast.Attribute):
        return []
    owner = function.value.id if isinstance(function.value, ast.Name) else None
    owners = [imported[owner]] if owner in imported else OWNERS
    return [getattr(kind, function.attr) for kind in owners if hasattr(kind, function.attr)]


# Named in no signature: the methods pass them on.
PASSED_ON = {
    "from_pretrained": {"dtype", "trust_remote_code", "id2label", "label2id", "num_labels"},  # configuration and hub
    "decode": {"clean_up_tokenization_spaces"},  # the tokenizer's backend
    "SFTTrainer": {"model", "processing_class", "train_dataset"},  # which unsloth has wrapped
    "generate": {"input_ids", "attention_mask"},  # the model's inputs
    "GenerationConfig": {"pad_token_id", "eos_token_id"},  # its attributes
}


def accepts(callable_, keyword: str) -> bool:
    return keyword in inspect.signature(callable_).parameters


def test_every_keyword_is_in_the_pinned_signatures():
    calls = library_calls()
    names = {name for _, name, _, _ in calls}
    assert {"LoraConfig", "policy.load_adapter", "policy.save_pretrained", "trainer.train"} <= names
    unknown = [
        f"{place} {name}({keyword}=)"
        for place, name, callables, keywords in calls
        for keyword in keywords
        if keyword not in PASSED_ON.get(name.rpartition(".")[2], ())
        and not any(accepts(callable_, keyword) for callable_ in callables)
    ]
    assert unknown == []
