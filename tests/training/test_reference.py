"""The frozen side of DPO: whose log-probabilities they are, and that computing them once changes nothing."""

import math
import resource

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_train_dpo import loss_of, set_up, shift
from tiny_models import write_tiny_adapter

from response_generator.config.training_schema import DPOArguments
from response_generator.config.validation import validate_arguments
from response_generator.errors import InputError, RunError
from response_generator.modeling import loading as models
from response_generator.modeling.adapter_file import AdapterFile
from response_generator.modeling.adapters import add_adapter
from response_generator.modeling.base_model import load_base
from response_generator.modeling.precision import has_native_bf16
from response_generator.training import dpo_checks, reference


@pytest.fixture
def arguments(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return arguments_for(tiny, tmp_path)


def arguments_for(tiny, tmp_path, **changes) -> DPOArguments:
    return validate_arguments(DPOArguments, tiny.dpo(tmp_path / "run", **changes), "args.json")


def reference_logps(trainer) -> torch.Tensor:
    """`(pairs, 2)`, as the trainer computes them while it trains."""
    batch = trainer._prepare_inputs(trainer.data_collator(list(trainer.train_dataset)))
    return torch.stack(trainer.compute_ref_log_probs(trainer.model.eval(), batch), dim=1)


def plain_logps(model, row: dict) -> torch.Tensor:
    """Log-probabilities of both completions from the model's logits, without TRL: log-softmax at every token."""
    sums = []
    for side in ("chosen_ids", "rejected_ids"):
        prompt, completion = row["prompt_ids"], row[side]
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=has_native_bf16()):
            logits = model(input_ids=torch.tensor([prompt + completion])).logits[0].float()
        of_completion = logits[len(prompt) - 1 : -1].log_softmax(-1)
        sums.append(of_completion[range(len(completion)), completion].sum())
    return torch.stack(sums)


@pytest.mark.parametrize("lora", [{}, {"r": 8, "target_modules": ["k_proj", "o_proj"]}, {"use_dora": True}])
def test_another_reference_speaks_as_a_model_with_that_adapter_alone(precision, tiny, tmp_path, arguments, lora):
    write_tiny_adapter(tiny.folder / "base", tmp_path / "other", seed=9, **lora)
    other = arguments_for(tiny, tmp_path, reference_adapter=str(tmp_path / "other"))
    trainer, start, _ = set_up(other)
    frozen = AdapterFile.read(tmp_path / "other")
    assert dpo_checks.check_start(trainer, start, frozen)["initial_max_logp_gap"] > 1
    assert list(trainer.model.peft_config) == ["default", "ref"]
    assert not any(weight.requires_grad for name, weight in trainer.model.named_parameters() if ".ref." in name)

    alone = add_adapter(load_base(other), frozen, "alone").eval()
    expected = torch.stack([plain_logps(alone, row) for row in trainer.train_dataset])
    assert reference_logps(trainer) == pytest.approx(expected, abs=0.6)  # bf16, other batches: tenths of a nat
    policy = torch.stack([plain_logps(trainer.model.eval(), row) for row in trainer.train_dataset])
    assert (policy - expected).abs().mean() > 5  # the two adapters do differ

    trainer.train()
    dpo_checks.check_end(trainer.model, start, frozen)
    with pytest.raises(RunError, match="the reference is not .*adapter"):
        dpo_checks.check_end(trainer.model, start, None)


def test_another_reference_drops_nothing_while_the_policy_trains(tiny, tmp_path, arguments):
    write_tiny_adapter(tiny.folder / "base", tmp_path / "other", seed=9, lora_dropout=0.5)
    trainer, _, _ = set_up(arguments_for(tiny, tmp_path, reference_adapter=str(tmp_path / "other")))
    batch = trainer._prepare_inputs(trainer.data_collator(list(trainer.train_dataset)))
    once, again = (trainer.compute_ref_log_probs(trainer.model.train(), batch)[0] for _ in range(2))
    assert torch.equal(once, again)


def test_a_new_lora_starts_from_the_bare_base(tiny, tmp_path, arguments):
    lora = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"]}
    new = arguments_for(tiny, tmp_path, adapter=None, lora=lora)
    trainer, start, _ = set_up(new, max_steps=2, learning_rate=1e-2)
    assert start is None
    assert dpo_checks.check_start(trainer, None, None)["initial_loss"] == pytest.approx(math.log(2), abs=1e-6)
    trainer.train()
    dpo_checks.check_end(trainer.model, None, None)
    with trainer.model.disable_adapter():
        bare = torch.stack([plain_logps(trainer.model.eval(), row) for row in trainer.train_dataset])
    assert reference_logps(trainer) == pytest.approx(bare, abs=0.6)
    shift(trainer.model, "ref", 1e-3)
    with pytest.raises(RunError, match="the reference is not the bare base"):
        dpo_checks.check_end(trainer.model, None, None)


def test_a_new_lora_depends_on_the_seed_alone(tiny, tmp_path):
    def weights(seed: int) -> torch.Tensor:
        new = arguments_for(tiny, tmp_path, adapter=None, lora={"r": 4, "target_modules": ["q_proj"]}, seed=seed)
        torch.rand(3)
        policy = models.load_policy(new, None)
        return torch.cat([weight.flatten() for name, weight in policy.named_parameters() if "lora_A" in name])

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


def test_a_lora_that_does_not_fit_is_refused_before_the_base_is_loaded(tiny, tmp_path):
    with pytest.raises(InputError, match="lora.target_modules: no_such_layer: the base model has no such module"):
        models.resolve_initial_adapter(
            arguments_for(tiny, tmp_path, adapter=None, lora={"target_modules": ["no_such_layer"]})
        )


def test_a_precomputed_reference_gives_the_loss_of_a_recomputed_one(arguments):
    fresh, _, _ = set_up(arguments, bf16=False)
    stored, start, _ = set_up(arguments, bf16=False, precompute_ref_log_probs=True, precompute_ref_batch_size=3)
    assert {"ref_chosen_logps", "ref_rejected_logps"} <= set(stored.train_dataset.column_names)
    assert not {"ref_chosen_logps"} & set(fresh.train_dataset.column_names)
    assert dpo_checks.check_start(stored, start, None)["initial_max_logp_gap"] < 0.1
    for trainer in (fresh, stored):
        shift(trainer.model, "default", 0.01)
    assert abs(loss_of(fresh) - math.log(2)) > 1e-3
    assert loss_of(stored) == pytest.approx(loss_of(fresh), abs=2e-3)


def key_of(arguments, **dpo) -> str:
    trainer, _, _ = set_up(arguments, **dpo)
    return reference.compute_cache_key(trainer, trainer.train_dataset, reference.hash_module(trainer.model))


def test_the_cache_key_names_all_that_the_log_probabilities_depend_on(tiny, tmp_path, arguments):
    key = key_of(arguments)
    assert key == key_of(arguments.model_copy(update={"seed": 7, "output_dir": str(tmp_path / "elsewhere")}))
    assert key == key_of(arguments, beta=0.7, learning_rate=1e-5)

    write_tiny_adapter(tiny.folder / "base", tmp_path / "weights", seed=9)
    write_tiny_adapter(tiny.folder / "base", tmp_path / "scale", lora_alpha=99)
    other_dtype = "float32" if has_native_bf16() else "bfloat16"  # than the one chosen for this processor
    template = arguments.chat_template.model_copy(update={"system_prompt": "You are kind ."})
    others = {
        "adapter weights": key_of(arguments_for(tiny, tmp_path, adapter=str(tmp_path / "weights"))),
        "adapter settings": key_of(arguments_for(tiny, tmp_path, adapter=str(tmp_path / "scale"))),
        "reference": key_of(arguments_for(tiny, tmp_path, reference_adapter=str(tmp_path / "weights"))),
        "rendered text": key_of(arguments.model_copy(update={"chat_template": template})),
        "quantization": key_of(
            arguments.model_copy(update={"from_pretrained": arguments.from_pretrained | {"load_in_4bit": False}})
        ),
        "max_length": key_of(arguments, max_length=512),
        "truncation": key_of(arguments, max_length=150),
        "precision": key_of(
            arguments.model_copy(update={"from_pretrained": arguments.from_pretrained | {"dtype": other_dtype}})
        ),
        "batch": key_of(arguments, precompute_ref_batch_size=3),
    }
    assert len({key, *others.values()}) == 1 + len(others), others


def test_the_cache_is_read_and_a_run_without_it_gives_the_same(arguments, capsys):
    first, _, _ = set_up(arguments, precompute_ref_log_probs=True)
    (file,) = reference.get_cache_folder().glob("*.safetensors")
    assert "from" not in capsys.readouterr().out
    second, _, _ = set_up(arguments, precompute_ref_log_probs=True)
    assert f"reference log-probs, training: from {file}" in capsys.readouterr().out
    assert first.train_dataset["ref_chosen_logps"][:] == second.train_dataset["ref_chosen_logps"][:]
    file.unlink()
    third, _, _ = set_up(arguments, precompute_ref_log_probs=True)
    assert first.train_dataset["ref_rejected_logps"][:] == third.train_dataset["ref_rejected_logps"][:]


def test_a_damaged_cache_is_computed_again(arguments, capsys):
    first, _, _ = set_up(arguments, precompute_ref_log_probs=True)
    expected = first.train_dataset["ref_chosen_logps"][:]
    rows = first.train_dataset.remove_columns(reference.REF_LOGPS_COLUMNS)
    weights = reference.hash_module(first.model)
    (file,) = reference.get_cache_folder().glob("*.safetensors")
    content = file.read_bytes()
    logps = load_file(file)["logps"]
    flipped = content[:-1] + bytes([content[-1] ^ 1])  # in the last value
    save_file({"logps": logps + 1}, file)  # as an earlier version of this program wrote it, without a checksum
    without_checksum = file.read_bytes()
    for damaged, words in (
        (flipped, "is not as it was written"),
        (without_checksum, "is not as it was written"),
        (content[:-9], "cannot be read"),
        (b"", "cannot be read"),
    ):
        file.write_bytes(damaged)
        capsys.readouterr()
        assert reference.add_ref_logps(first, rows, weights, "training")["ref_chosen_logps"][:] == expected
        assert f"reference log-probs: {file} {words}" in capsys.readouterr().out
        assert file.read_bytes() == content
    assert reference.read_cache(file, len(expected)) is not None
    assert reference.read_cache(file, len(expected) + 1) is None  # of other rows


@pytest.mark.parametrize("full", [False, True])
def test_a_cache_that_cannot_be_written_costs_a_line(arguments, tmp_path, full, capsys):
    """A limit on the size of files stands for a full disk, a file in the folder's place for one that is read-only."""
    if not full:
        (tmp_path / "cache").write_text("", encoding="utf-8")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50 if full else soft, hard))
    try:
        reference.write_cache([[-1.0, -2.0]] * 100, reference.get_cache_folder() / "key.safetensors")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    said = capsys.readouterr().out
    assert f"reference log-probs: {tmp_path / 'cache'}" in said and "not kept for later runs" in said
    assert not list(tmp_path.glob("cache/**/*.part")) and not list(tmp_path.glob("cache/**/.tmp*"))
    assert reference.read_cache(reference.get_cache_folder() / "key.safetensors", 100) is None


def test_the_order_of_a_set_does_not_change_the_cache_key():
    """PEFT keeps target modules in a set, whose order is another in every process, so the cache was never found."""
    one, other = {0, 8}, {8, 0}
    assert str(one) != str(other)
    assert reference.to_texts({"target_modules": one}) == reference.to_texts({"target_modules": other})
    assert reference.to_texts({"r": 8}) == {"r": "8"} != reference.to_texts({"r": 16})
