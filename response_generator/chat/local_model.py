"""The model of a chat, loaded in this process."""

from collections.abc import Callable

import torch
from transformers import GenerationConfig

from response_generator.chat.best_of import BestOfWriter
from response_generator.chat.reply import Choice
from response_generator.chat.text_streamer import TextStreamer
from response_generator.config.chat_schema import ChatArguments
from response_generator.data.chat_template import ChatFormatter
from response_generator.generation.generation_requests import GenerationRequest, Tokens, decode_reply
from response_generator.generation.oom import split_on_oom
from response_generator.generation.with_generate import draw_seed, sample_tokens, set_generation_config
from response_generator.modeling import inference
from response_generator.modeling.cpu_inference import fast_cpu_inference
from response_generator.scoring.best_of import ReplyScorer


class LocalModel:
    """Writes replies with any of the adapters on one base model, once that is loaded.

    Args:
        request: of any prompt; the methods of writing several replies are tried with it.
    """

    def __init__(
        self,
        arguments: ChatArguments,
        adapters: inference.Adapters,
        config: GenerationConfig,
        formatter: ChatFormatter,
        request: GenerationRequest,
    ):
        # Not every name that may be shown can be an adapter's name in PEFT.
        self.names = {name: f"adapter_{number}" for number, name in enumerate(adapters)}
        self.arguments, self.adapters, self.config, self.request = arguments, adapters, config, request
        self.tokenizer = formatter.tokenizer
        self.context = inference.context_length(arguments)
        self.model = self.best_of = None

    def load(self) -> None:
        adapters = {self.names[name]: adapter for name, adapter in self.adapters.items()}
        self.model = inference.load_model(self.arguments, adapters)
        set_generation_config(self.model, self.config)
        if self.arguments.best_of:
            first, adapter = next(iter(adapters.items()))
            scorer = ReplyScorer(self.arguments.best_of, self.arguments.label_set)
            with inference.use_adapter(self.model, adapter, first):
                self.best_of = BestOfWriter(self.model, scorer, self.config, self.tokenizer, self.request)

    def write(
        self, name: str, request: GenerationRequest, seed: int, show: Callable[[str], None]
    ) -> tuple[Tokens, Choice | None]:
        """The tokens of a reply of the adapter `name`. The best of several is shown when it is chosen.

        Raises:
            RunError: when memory is not enough.
        """
        adapter = inference.use_adapter(self.model, self.adapters[name], self.names[name])
        with adapter, fast_cpu_inference(self.model):
            return self.write_best(request, seed, show) if self.best_of else (self.write_one(request, seed, show), None)

    def write_one(self, request: GenerationRequest, seed: int, show: Callable[[str], None]) -> Tokens:
        """Writes a reply with the active adapter, and shows each part of it."""

        def sample(prompts: list[Tokens]) -> list[Tokens]:
            torch.manual_seed(draw_seed(seed, 0, request.dialogue.index))
            return sample_tokens(self.model, prompts, self.config, TextStreamer(self.tokenizer, show))

        (tokens,) = split_on_oom(sample, [request.prompt_ids])
        return tokens

    def write_best(self, request: GenerationRequest, seed: int, show: Callable[[str], None]) -> tuple[Tokens, Choice]:
        """Writes several replies and shows the best one; before, `show` gets empty texts, because it can stop this."""
        tokens, choice = self.best_of.write(request, seed, lambda: show(""))
        show(decode_reply(tokens, self.tokenizer))
        return tokens, choice
