"""Weights of texts and their loss, against scikit-learn and a direct computation."""

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from transformers import TrainingArguments

from response_generator.errors import RunError
from response_generator.training import text_classifier, weighted_classifier
from response_generator.training.weighted_classifier import compute_weights

LABELS = ("neutral", "anger", "fear")
TEXTS = [
    ("I am fine .", "neutral"),
    ("Go away !", "anger"),
    ("Who is there ?", "fear"),
    ("We met him at noon .", "neutral"),
    ("Yes .", "neutral"),
]
WEIGHTS = [0.5, 2.0, 3.0, 0.25, 1.0]


def test_with_a_balance_of_1_they_are_scikit_learns_balanced_weights():
    class_ids = np.array([0] * 6 + [1] * 3 + [2])
    balanced = compute_class_weight("balanced", classes=np.arange(3), y=class_ids)
    assert compute_weights(class_ids, np.ones(10), 1.0) == pytest.approx(balanced[class_ids])
    assert compute_weights(class_ids, np.ones(10), 0.0).tolist() == [1.0] * 10


def test_weights_of_two_data_sets_by_hand():
    """Two texts of weight 3 and one of weight 1 with the first label: counted 7 times; 1 with the second: once."""
    weights = compute_weights(np.array([0, 0, 0, 1]), np.array([3.0, 3.0, 1.0, 1.0]), 0.5)
    expected = np.array([3 / 7**0.5, 3 / 7**0.5, 1 / 7**0.5, 1.0])
    assert weights == pytest.approx(expected / expected.mean())


def build_trainer(tiny, folder, weights=WEIGHTS, **settings):
    model, tokenizer = text_classifier.load_for_training(tiny.base, LABELS, seed=1)
    values = {"max_steps": 1, "learning_rate": 0.1, "optim": "sgd", "max_grad_norm": 0, "lr_scheduler_type": "constant"}
    values |= {"bf16": False, "per_device_train_batch_size": 2}
    arguments = text_classifier.build_training_arguments(values | settings, str(folder), seed=1)
    return weighted_classifier.build_trainer(model, tokenizer, TEXTS, weights, arguments, {}, 1)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_a_step_takes_the_gradient_of_the_weighted_mean(tiny, tmp_path, smoothing):
    """Over three batches, of which the last one has one text; computed here text by text, without padding."""
    settings = {"gradient_accumulation_steps": 3, "train_sampling_strategy": "sequential"}
    trainer = build_trainer(tiny, tmp_path, label_smoothing_factor=smoothing, **settings)
    model, tokenizer = text_classifier.load_for_training(tiny.base, LABELS, seed=1)
    loss = 0.0
    for (text, label), weight in zip(TEXTS, WEIGHTS, strict=True):
        ids = tokenizer(text, return_tensors="pt")["input_ids"]
        scores = model(input_ids=ids).logits[0].log_softmax(-1)
        entropy = -(1 - smoothing) * scores[LABELS.index(label)] - smoothing * scores.mean()
        loss += weight * entropy / len(TEXTS)
    loss.backward()
    trainer.train()
    assert trainer.state.log_history[-1]["train_loss"] == pytest.approx(loss.item(), rel=1e-5)
    for trained, weight in zip(trainer.model.parameters(), model.parameters(), strict=True):
        assert torch.allclose(trained, weight - 0.1 * weight.grad, atol=1e-6)


def test_a_loss_that_is_not_finite_stops_the_run(tiny, tmp_path):
    trainer = build_trainer(tiny, tmp_path, weights=[float("nan")] * 5)
    with pytest.raises(RunError, match="step 1: the loss is nan; stopped before the weights were changed"):
        trainer.train()


def test_several_gpus_share_no_batch(tmp_path, monkeypatch):
    monkeypatch.setattr(TrainingArguments, "n_gpu", property(lambda self: 1 if self._n_gpu == 1 else 2))
    assert text_classifier.build_training_arguments({"bf16": False}, str(tmp_path), seed=1).n_gpu == 1


def test_logits_are_in_the_order_of_the_texts(tiny, tmp_path):
    settings = {"train_sampling_strategy": "group_by_length", "dataloader_drop_last": True}
    trainer = build_trainer(tiny, tmp_path, per_device_eval_batch_size=2, **settings)
    tokenizer = text_classifier.load_for_training(tiny.base, LABELS, seed=1)[1]
    logits = text_classifier.compute_logits(trainer, tokenizer, TEXTS)
    for (text, _), row in zip(TEXTS, logits, strict=True):
        with torch.inference_mode():
            alone = trainer.model.eval()(**tokenizer(text, return_tensors="pt")).logits[0]
        assert row == pytest.approx(alone.tolist(), abs=1e-5)
