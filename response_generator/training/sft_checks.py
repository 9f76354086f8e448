"""Checks before the first step of SFT that the loss is on the replies."""

from itertools import groupby

import torch
from accelerate.utils import send_to_device

from response_generator.data.dialogue_tokenization import IGNORED_LABEL
from response_generator.errors import RunError
from response_generator.modeling.logprobs import PromptAndCompletion, completion_logps
from response_generator.training.resumable_trainer import ResumableSFTTrainer

NUM_CHECKED_DIALOGUES = 2
# How far TRL's loss may be from ours, in nats a token. bfloat16 changes a token by up to 0.04; labels that are shifted
# by one token, or on the prompts too, change the mean by whole nats.
MAX_LOSS_GAP_NATS = 0.1


def check_start(trainer: ResumableSFTTrainer) -> dict[str, float]:
    """Before the first step, on a few dialogues: TRL must compute the mean negative log-probability of the replies.

    Returns:
        `initial_loss`: as TRL computes it, in nats a token.

    Raises:
        RunError: when it computes another loss.
    """
    rows = list(trainer.train_dataset.select(range(min(NUM_CHECKED_DIALOGUES, len(trainer.train_dataset)))))
    model = trainer.model
    was_training = model.training
    model.eval()
    try:
        batch = send_to_device(trainer.data_collator(rows), trainer.args.device)
        with torch.no_grad(), trainer.accelerator.autocast():
            loss = trainer.compute_loss(model, batch).item()
            texts = [text for row in rows for text in split_replies(row)]
            logps = completion_logps(model, texts, trainer.processing_class.pad_token_id)
    finally:
        trainer._metrics["eval"].clear()  # compute_loss adds to what the next evaluation logs
        model.train(was_training)
    expected = -sum(logps) / sum(len(reply) for _, reply in texts)
    if trainer.args.loss_type == "nll" and not abs(loss - expected) <= MAX_LOSS_GAP_NATS:
        raise RunError(
            f"before the first step TRL computes a loss of {loss:.4f}; that of the replies is {expected:.4f}"
        )
    return {"initial_loss": loss}


def split_replies(row: dict[str, list[int]]) -> list[PromptAndCompletion]:
    """Each reply of a tokenized dialogue, and all tokens before it."""
    texts, start = [], 0
    for is_ignored, labels in groupby(row["labels"], key=lambda label: label == IGNORED_LABEL):
        end = start + len(list(labels))
        if not is_ignored:
            texts.append((row["input_ids"][:start], row["input_ids"][start:end]))
        start = end
    return texts
