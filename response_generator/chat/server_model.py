"""The model of a chat, on a server."""

from collections.abc import Callable
from typing import Any

from transformers import GenerationConfig, PreTrainedTokenizerBase

from response_generator.chat.best_of import choose_reply
from response_generator.chat.reply import Choice
from response_generator.chat.text_streamer import TextStreamer
from response_generator.config.chat_schema import ChatArguments
from response_generator.data.chat_template import ChatFormatter
from response_generator.errors import RunError
from response_generator.generation.generation_requests import GenerationRequest, SamplingParams, Tokens, decode_reply
from response_generator.generation.server import probe
from response_generator.generation.server.client import BadAnswer, ServerClient
from response_generator.generation.server.completions import ServedModel, check_settings_of_server, read_tokens
from response_generator.generation.server.facts import show_server
from response_generator.modeling.inference import Adapters, context_length
from response_generator.scoring.best_of import ReplyScorer


class ServerModel:
    """Writes replies with any of the adapters that a server has.

    Args:
        request: of any prompt; the server is tried with it.

    Raises:
        InputError: when the server cannot be used.
    """

    def __init__(
        self,
        arguments: ChatArguments,
        adapters: Adapters,
        config: GenerationConfig,
        formatter: ChatFormatter,
        request: GenerationRequest,
    ):
        check_settings_of_server(config)
        self.arguments, self.config, self.request = arguments, config, request
        self.tokenizer: PreTrainedTokenizerBase = formatter.tokenizer
        self.client = ServerClient(arguments.server)
        self.served = {
            name: ServedModel(self.client, model, arguments.server.send_seed)
            for name, model in arguments.server.models.items()
        }
        self.names = probe.ServerModels(
            {f"server.models.{name}": model.name for name, model in self.served.items()},
            frozenset(self.served[name].name for name, adapter in adapters.items() if adapter is None),
        )
        length = request.length + config.max_new_tokens
        self.facts: dict[str, Any] = probe.check_server(self.client, self.names, [request], [length], formatter)
        own = context_length(arguments)
        self.context = min(own, self.facts["context"] or own)
        self.scorer = None

    def load(self) -> None:
        """Lets the server write something, and loads the classifiers that choose."""
        params = SamplingParams(self.config, self.arguments.seed, samples=1)
        server = self.arguments.server
        self.facts |= probe.probe_server(self.client, server, self.names, [self.request], params)
        show_server(self.facts)
        if self.arguments.best_of:
            self.scorer = ReplyScorer(self.arguments.best_of, self.arguments.label_set)

    def write(
        self, name: str, request: GenerationRequest, seed: int, show: Callable[[str], None]
    ) -> tuple[Tokens, Choice | None]:
        """The tokens of a reply of the adapter `name`. The best of several is shown when it is chosen.

        Raises:
            RunError: when the server gives no answer.
        """
        if not self.scorer:
            (tokens,) = self.write_samples(name, request, seed, 1, TextStreamer(self.tokenizer, show).add)
            return tokens, None
        samples = self.arguments.best_of.samples
        replies = self.write_samples(name, request, seed, samples, lambda tokens: show(""))
        tokens, choice = choose_reply(replies, request.dialogue.target_emotion, self.scorer, self.tokenizer)
        show(decode_reply(tokens, self.tokenizer))
        return tokens, choice

    def write_samples(
        self, name: str, request: GenerationRequest, seed: int, samples: int, add: Callable[[Tokens], None]
    ) -> list[Tokens]:
        """Several replies. `add` gets the next tokens of any of them, and can stop them all."""
        tokens: list[Tokens] = [[] for _ in range(samples)]
        reasons: list[str | None] = [None] * samples
        with self.served[name].stream(request, SamplingParams(self.config, seed, samples)) as parts:
            for number, new, reason in parts:
                tokens[number] += new
                reasons[number] = reason or reasons[number]
                add(new)
        try:
            return [
                read_tokens(each, reason, self.config.eos_token_id)
                for each, reason in zip(tokens, reasons, strict=True)
            ]
        except BadAnswer as error:
            raise RunError(f"{self.client.url}: {error}; try again") from error
