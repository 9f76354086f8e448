"""Writes several replies to one prompt at once, and keeps the best."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from peft import PeftModel
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from response_generator.chat.reply import Choice
from response_generator.generation import method
from response_generator.generation.generation_requests import (
    BatchLimit,
    GenerationRequest,
    SamplingParams,
    Tokens,
    decode_reply,
)
from response_generator.scoring.best_of import ReplyScorer, choose_best


class BestOfWriter:
    """Loads the classifiers that choose, and finds out how the model can write several replies.

    Args:
        request: of any prompt; the methods are tried with it on a GPU.
    """

    def __init__(
        self,
        model: PeftModel | PreTrainedModel,
        scorer: ReplyScorer,
        config: GenerationConfig,
        tokenizer: PreTrainedTokenizerBase,
        request: GenerationRequest,
    ):
        self.model, self.scorer, self.config, self.tokenizer = model, scorer, config, tokenizer
        self.method = method.choose_method(model, config, "auto", [request])

    def write(self, request: GenerationRequest, seed: int, check_stopped: Callable[[], Any]) -> tuple[Tokens, Choice]:
        """Samples replies with the active adapter, and returns the tokens of the best one.

        Args:
            check_stopped: called at every forward pass; it raises an exception to stop.
        """
        samples = self.scorer.best_of.samples
        params = SamplingParams(self.config, seed, samples)
        with call_at_forward_passes(self.model, check_stopped):
            (replies,) = method.generate(
                self.method, self.model, [request], params, BatchLimit(samples), lambda finished: None
            )
        texts = [decode_reply(tokens, self.tokenizer) for tokens in replies.samples]
        scores = self.scorer.score(texts, [request.dialogue.target_emotion] * samples)
        best = choose_best(texts, scores)
        return replies.samples[best], Choice(samples, self.scorer.best_of.choose_by, scores[best])


@contextmanager
def call_at_forward_passes(model: PeftModel | PreTrainedModel, call: Callable[[], Any]) -> Iterator[None]:
    # The model's own hooks are not called: PEFT calls its `forward` directly.
    hook = model.get_input_embeddings().register_forward_hook(lambda *_: call())
    try:
        yield
    finally:
        hook.remove()
