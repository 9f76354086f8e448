"""The trainer around TRL's, on real 4-bit weights: same loss, true reference, adapters of every kind."""

import json

import pytest
import torch
from tiny_models import EMOTION_LABELS, demo_rows, write_tiny_adapter

from response_generator.config.schema import EvaluateArguments
from response_generator.config.training_schema import DPOArguments
from response_generator.config.validation import validate_arguments
from response_generator.data.chat_template import ChatFormatter
from response_generator.data.datasets import parse_pair
from response_generator.data.pair_tokenization import tokenize_pairs
from response_generator.errors import InputError, RunError
from response_generator.evaluation import pipeline
from response_generator.modeling import base_config, base_model, loading
from response_generator.modeling.adapter_file import AdapterFile
from response_generator.modeling.adapters import add_adapter
from response_generator.modeling.tokenizer import load_tokenizer
from response_generator.training import dpo_checks, reference, run_training, trainer_config, trainer_setup
from response_generator.training.checkpoints import checkpointing
from response_generator.training.trl_trainers import ResumableDPOTrainer

PAIRS = [parse_pair(number, row, EMOTION_LABELS) for number, row in enumerate(demo_rows("written_pairs_train", 8))]


@pytest.fixture
def arguments(tiny, tmp_path):
    return validate_arguments(DPOArguments, tiny.dpo(tmp_path / "run"), "args.json")


def set_up(arguments, **dpo):
    """Trainer, the adapter it starts from, and formatter for the arguments, as fine_tune_dpo.py makes them."""
    arguments = arguments.model_copy(update={"dpo": {**arguments.dpo, **dpo}})
    config = trainer_config.build_dpo_config(arguments)
    source = loading.resolve_initial_adapter(arguments)
    frozen = loading.resolve_reference_adapter(arguments, source)
    tokenizer = load_tokenizer(arguments, source)
    formatter = ChatFormatter.of(tokenizer, arguments.chat_template, EMOTION_LABELS)
    policy = loading.load_policy(arguments, source)
    tokens = tokenize_pairs(PAIRS, formatter, config.max_length)
    trainer = trainer_setup.build_trainer(ResumableDPOTrainer, policy, tokenizer, config, tokens, None, [])
    if frozen:
        reference.load_reference_adapter(policy, frozen)
    if arguments.dpo.get("precompute_ref_log_probs"):
        reference.precompute_ref_logps(trainer)
    return trainer, source, formatter


def loss_of(trainer, rows=slice(None)) -> float:
    batch = trainer._prepare_inputs(trainer.data_collator(list(trainer.train_dataset)[rows]))
    with torch.no_grad(), trainer.accelerator.autocast():
        return trainer.compute_loss(trainer.model.eval(), batch).item()


def shift(policy, adapter: str, by: float) -> None:
    with torch.no_grad():
        for name, weight in policy.named_parameters():
            if f"lora_B.{adapter}." in name:
                weight.add_(by)


def test_weights_are_four_bit_adapters_two_and_only_one_trains(arguments):
    trainer, _, _ = set_up(arguments)
    assert trainer.model.is_loaded_in_4bit
    assert list(trainer.model.peft_config) == ["default", "ref"]
    trained = {name: weight for name, weight in trainer.model.named_parameters() if weight.requires_grad}
    assert trained
    assert all(".default." in name and weight.dtype == torch.float32 for name, weight in trained.items())


@pytest.mark.parametrize("setting", [{}, {"gradient_checkpointing": True}, {"precompute_ref_log_probs": True}])
def test_training_moves_every_matrix_of_the_adapter_and_no_bit_of_the_reference(arguments, setting):
    trainer, source, _ = set_up(arguments, max_steps=3, learning_rate=1e-2, **setting)
    dpo_checks.check_start(trainer, source, None)
    with pytest.raises(RunError, match="is the same as before training"):
        dpo_checks.check_end(trainer.model, source, None)
    before = {name: weight.detach().clone() for name, weight in trainer.model.named_parameters()}
    trainer.train()
    dpo_checks.check_end(trainer.model, source, None)
    for name, weight in trainer.model.named_parameters():
        assert torch.equal(weight, before[name]) is (".default." not in name), name
    shift(trainer.model, "ref", 1e-6)
    with pytest.raises(RunError, match="the reference is not"):
        dpo_checks.check_end(trainer.model, source, None)


def test_small_steps_are_not_rounded_away(arguments):
    """A step of 1e-6 is below half an ulp in bf16, where TRL leaves a 4-bit model's adapter."""
    trainer, _, _ = set_up(arguments, max_steps=1, learning_rate=1e-6)
    trainer.train()
    for name, weight in trainer.model.named_parameters():
        if ".default." in name:
            moved = weight - trainer.model.get_parameter(name.replace(".default.", ".ref."))
            assert 0 < moved.abs().max() < 2e-6, name


def test_a_frozen_adapter_is_told_before_training(arguments, monkeypatch):
    frozen = add_adapter(
        base_model.load_base(arguments),
        AdapterFile.read(loading.fetch_adapter(arguments.adapter)),
        loading.POLICY_ADAPTER,
        trainable=False,
    )
    monkeypatch.setattr(loading, "load_policy", lambda *_: frozen)
    with pytest.raises(RunError, match="no parameter is trainable"):
        set_up(arguments)


def test_checkpoints_hold_the_trained_adapter_alone(arguments):
    trainer, _, _ = set_up(arguments, max_steps=2, save_steps=2)
    trainer.train()
    (checkpoint,) = trainer.args.output_dir and list(
        loading.fetch_adapter(trainer.args.output_dir).glob("checkpoint-*")
    )
    assert not (checkpoint / "ref").exists()
    assert not (checkpoint / "training_args.bin").exists()
    shapes = AdapterFile.read(checkpoint).shapes
    assert shapes == AdapterFile.read(loading.fetch_adapter(arguments.adapter)).shapes
    assert checkpointing.find_last_checkpoint(checkpoint.parent) == checkpoint


def test_other_losses_and_weights_start_as_they_should(arguments):
    for setting in ({"loss_type": ["ipo"]}, {"loss_weights": [0.5]}, {"use_weighting": True}):
        trainer, source, _ = set_up(arguments, **setting)
        assert dpo_checks.check_start(trainer, source, None)["initial_max_logp_gap"] == pytest.approx(0, abs=1e-4)


def test_the_mean_loss_counts_steps():
    log = [{"step": 4, "loss": 1.0}, {"step": 4, "eval_loss": 9.0}, {"step": 6, "loss": 4.0}, {"step": 6}]
    assert run_training.compute_mean_loss(log) == {"train_loss": (4 * 1.0 + 2 * 4.0) / 6}
    assert run_training.compute_mean_loss([]) == {}


def test_the_last_quarter_is_a_mean_over_steps():
    """Of 10 steps the last quarter begins after step 7.5: the entry of steps 7 and 8 counts, and those after it."""
    log = [
        {"step": 6, "loss": 9.0, "rewards/margins": 9.0, "learning_rate": 1.0},
        {"step": 8, "loss": 1.0, "rewards/margins": 0.25, "learning_rate": 1.0},
        {"step": 8, "eval_loss": 5.0},
        {"step": 9, "loss": 4.0, "rewards/margins": 1.0, "learning_rate": 1.0},
        {"step": 10, "loss": 2.0, "rewards/margins": 0.5, "learning_rate": 1.0},
        {"step": 10, "loss": 7.0, "train_loss": 7.0},  # the final summary
    ]
    expected = {"last_quarter/loss": (2 * 1 + 4 + 2) / 4, "last_quarter/rewards/margins": (2 * 0.25 + 1 + 0.5) / 4}
    assert run_training.compute_last_quarter(log) == expected
    assert run_training.compute_last_quarter([]) == {}


def test_values_that_do_not_go_together_are_refused(arguments):
    with pytest.raises(InputError, match="dpo: .*loss_weights"):
        set_up(arguments, loss_type=["sigmoid"], loss_weights=[1.0, 2.0])


def test_plain_transformers_does_not_train_without_a_card(arguments):
    with pytest.raises(InputError, match='use "unsloth" here'):
        set_up(arguments.model_copy(update={"backend": "transformers"}))


def with_tokens(tiny, folder, added: list[str], **lora):
    """An adapter trained with added tokens: its own tokenizer, and the embeddings resized to it."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny.base)
    tokenizer.add_tokens(added)
    base = AutoModelForCausalLM.from_pretrained(tiny.base)
    base.resize_token_embeddings(len(tokenizer))
    torch.manual_seed(3)
    config = LoraConfig(r=4, target_modules=["q_proj"], task_type="CAUSAL_LM", init_lora_weights=False, **lora)
    model = get_peft_model(base, config)
    model.save_pretrained(folder, save_embedding_layers=True)
    tokenizer.save_pretrained(folder)
    return model


@pytest.mark.parametrize("kept", [{"modules_to_save": ["embed_tokens", "lm_head"]}, {}])
def test_an_adapter_with_added_tokens_loads_with_its_own_embeddings(tiny, tmp_path, arguments, kept):
    original = with_tokens(tiny, tmp_path / "adapter", ["<laugh>", "<sigh>"], **kept)
    arguments = arguments.model_copy(update={"adapter": str(tmp_path / "adapter")})
    trainer, source, formatter = set_up(arguments, max_steps=1)
    rows = len(formatter.tokenizer)
    assert formatter.encode("<sigh>") == [rows - 1]
    loaded = trainer.model.get_input_embeddings()
    weight = loaded.modules_to_save["default"].weight if kept else loaded.weight
    expected = original.get_input_embeddings()
    expected = expected.modules_to_save["default"].weight if kept else expected.weight
    assert weight.shape[0] == rows
    assert torch.equal(weight[-2:].float().cpu(), expected[-2:].float())
    dpo_checks.check_start(trainer, source, None)
    trainer.train()
    dpo_checks.check_end(trainer.model, source, None)
    if kept:  # the output matrix of the adapter is the one that the loss used
        head = trainer.model.get_output_embeddings().modules_to_save
        assert not torch.equal(head["default"].weight, head["ref"].weight)
    run_training.save_adapter(trainer.model, formatter.tokenizer, tmp_path / "saved")
    assert AdapterFile.read(tmp_path / "saved").embedding_rows == rows


def test_tokens_without_embeddings_are_refused(tiny, tmp_path, arguments):
    write_tiny_adapter(tiny.folder / "base", tmp_path / "adapter")
    special = {"additional_special_tokens": ["<laugh>"]}
    template = arguments.chat_template.model_copy(update={"special_tokens": special})
    with pytest.raises(InputError, match="has 601 tokens, but the base model has 600 "):
        set_up(arguments.model_copy(update={"adapter": str(tmp_path / "adapter"), "chat_template": template}))


def test_a_baseline_without_the_adapters_tokens_is_refused(tiny, tmp_path):
    with_tokens(tiny, tmp_path / "adapter", ["<sigh>"], modules_to_save=["embed_tokens", "lm_head"])
    for baseline in ("none", tiny.adapter):
        values = tiny.evaluate(tmp_path / "run", adapter=str(tmp_path / "adapter"), baseline_adapter=baseline)
        with pytest.raises(InputError, match="baseline_adapter: .* has 601 tokens, but the base model has 600 "):
            pipeline.resolve_adapters(validate_arguments(EvaluateArguments, values, "args.json"))
    with_tokens(tiny, tmp_path / "replacing", ["<sigh>"])
    values = tiny.evaluate(
        tmp_path / "run", adapter=str(tmp_path / "adapter"), baseline_adapter=str(tmp_path / "replacing")
    )
    with pytest.raises(InputError, match="replaces the base's embeddings"):
        pipeline.resolve_adapters(validate_arguments(EvaluateArguments, values, "args.json"))


def test_a_pad_token_of_its_own_is_needed(tiny, arguments):
    template = arguments.chat_template.model_copy(update={"special_tokens": {"pad_token": "<|im_end|>"}})
    with pytest.raises(InputError, match="set pad_token to a token other than <|im_end|>"):
        set_up(arguments.model_copy(update={"chat_template": template}))


def test_a_keyword_of_another_family_is_refused(tiny, tmp_path, arguments):
    config = json.loads((tiny.folder / "base" / "config.json").read_text(encoding="utf-8"))
    del config["pretraining_tp"]
    (tmp_path / "config.json").write_text(json.dumps({**config, "model_type": "gpt2"}), encoding="utf-8")
    with pytest.raises(InputError, match="from_pretrained.pretraining_tp: gpt2 models have no such field"):
        base_config.load_config(arguments.model_copy(update={"base_model": str(tmp_path)}))
