"""Writes replies with any of the adapters, shows each while it is written, and labels it."""

from collections.abc import Callable

import torch
from transformers import GenerationConfig
from transformers.generation.streamers import BaseStreamer

from response_generator.chat.best_of import BestOfWriter
from response_generator.chat.reply import Choice, FoundLabels, Reply, ShowText
from response_generator.config.chat_schema import ChatArguments
from response_generator.data.chat_template import ChatFormatter
from response_generator.data.datasets import Dialogue, Message
from response_generator.data.prompt_tokens import tokenize_prompt
from response_generator.errors import InputError
from response_generator.generation.generation_requests import (
    GenerationRequest,
    Tokens,
    build_generation_config,
    decode_reply,
)
from response_generator.generation.oom import split_on_oom
from response_generator.generation.with_generate import draw_seed, sample_tokens, set_generation_config
from response_generator.modeling import inference
from response_generator.modeling.cpu_inference import fast_cpu_inference
from response_generator.modeling.shared_base import find_adapters, load_shared_tokenizer
from response_generator.scoring import classifiers
from response_generator.scoring.best_of import ReplyScorer, check_choosing_classifiers

INCOMPLETE_CHARACTER = "\ufffd"  # at the end of a text: the next token completes it


class TextStreamer(BaseStreamer):
    """Passes on the text of each new token. `generate` calls it, first with the prompt."""

    def __init__(self, tokenizer, show):
        self.tokenizer, self.show = tokenizer, show
        self.has_prompt, self.tokens, self.shown = False, [], ""

    def put(self, value: torch.Tensor) -> None:
        if not self.has_prompt:
            self.has_prompt = True
            return
        self.tokens += value.tolist()
        text = decode_reply(self.tokens, self.tokenizer)
        if text.startswith(self.shown) and not text.endswith(INCOMPLETE_CHARACTER):
            # Also without new text, because `show` can stop the reply.
            self.show(text[len(self.shown) :])
            self.shown = text

    def end(self) -> None:
        """What was held back, such as an incomplete character, is part of the finished reply."""


class ReplyWriter:
    """Everything is checked when it is made; `load` then loads the models.

    Raises:
        InputError: when an adapter, the template, the settings or a classifier cannot be used.
    """

    def __init__(self, arguments: ChatArguments):
        self.arguments = arguments
        self.names = tuple(arguments.adapters)
        self.label_set = arguments.label_set
        if arguments.scoring:
            classifiers.check_classifiers(arguments.scoring, arguments.label_set)
        if arguments.best_of:
            check_choosing_classifiers(arguments.best_of, arguments.label_set)
        adapters = find_adapters(arguments, {f"adapters.{name}": source for name, source in arguments.adapters.items()})
        with_tokenizer = [key for key, adapter in adapters.items() if adapter and adapter.has_tokenizer]
        self.tokenizer = load_shared_tokenizer(arguments, adapters, [*with_tokenizer, *adapters][0])
        self.adapters = dict(zip(self.names, adapters.values(), strict=True))
        self.formatter = ChatFormatter.of(self.tokenizer, arguments.chat_template, arguments.label_set)
        self.config: GenerationConfig = build_generation_config(arguments.generation, self.tokenizer)
        self.context = inference.context_length(arguments)
        if len(tokenize_prompt(self.sample_prompt, self.formatter)) > self.room:
            raise InputError(
                f"generation.max_new_tokens: got {self.config.max_new_tokens}; the model's context of {self.context} "
                f"tokens leaves no room for a prompt; set a smaller number"
            )
        self.model = self.emotions = self.gibberish = self.best_of = None

    @property
    def sample_emotion(self) -> str | None:
        return self.arguments.target_emotion or self.label_set.default

    @property
    def sample_prompt(self) -> str:
        return self.formatter.prompt(self.formatter.sample_history, self.sample_emotion)

    @property
    def wait_note(self) -> str:
        """What a user is told while a reply is written that is not shown on the way; empty where it is."""
        best_of = self.arguments.best_of
        return f"writing {best_of.samples} replies, of which the best one is shown" if best_of else ""

    @property
    def room(self) -> int:
        """Tokens of a prompt that fit into the context together with the longest reply."""
        return self.context - self.config.max_new_tokens

    def load(self) -> None:
        # Not every name that may be shown can be an adapter's name in PEFT.
        model = inference.load_model(self.arguments, {self.peft_name(name): self.adapters[name] for name in self.names})
        set_generation_config(model, self.config)
        self.model = model
        if self.arguments.scoring:
            self.emotions = classifiers.load_emotion_classifier(self.arguments.scoring)
            self.gibberish = classifiers.load_gibberish_classifier(self.arguments.scoring)
        if self.arguments.best_of:
            history = self.formatter.sample_history
            request = make_request(history, self.sample_emotion, self.fit(history, self.sample_emotion)[0])
            scorer = ReplyScorer(self.arguments.best_of, self.arguments.label_set)
            with inference.use_adapter(model, self.adapters[self.names[0]], self.peft_name(self.names[0])):
                self.best_of = BestOfWriter(model, scorer, self.config, self.tokenizer, request)

    def peft_name(self, name: str) -> str:
        return f"adapter_{self.names.index(name)}"

    def find_emotion(self, text: str) -> str | None:
        """The emotion of a message; None without a classifier."""
        return self.emotions.classify([text])[0].label if self.emotions else None

    def write(self, history: list[Message], emotion: str | None, name: str, seed: int, show: ShowText) -> Reply:
        """Writes a reply with the adapter `name`. The best of several is shown when it is chosen.

        Raises:
            InputError: when the last message does not fit into the model's context, or holds special tokens.
            RunError: when memory is not enough.
        """
        if special := self.formatter.special_tokens_in(history[-1:]):
            raise InputError(
                f"the message holds {', '.join(sorted(special))}, which the model cannot tell from the chat template; "
                f"write it in another way"
            )
        prompt_ids, left_out = self.fit(history, emotion)
        request = make_request(history, emotion, prompt_ids)

        def show_part(text: str) -> None:
            show(name, text)

        adapter = inference.use_adapter(self.model, self.adapters[name], self.peft_name(name))
        with adapter, fast_cpu_inference(self.model):
            if self.best_of:
                tokens, choice = self.write_best(request, seed, show_part)
            else:
                tokens, choice = self.write_one(request, seed, show_part), None
        text = decode_reply(tokens, self.tokenizer)
        is_cut = tokens[-1] != self.config.eos_token_id
        return Reply(name, emotion, seed, text, len(tokens), is_cut, left_out, self.label(text, emotion), choice)

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

    def fit(self, history: list[Message], emotion: str | None) -> tuple[Tokens, int]:
        """Tokenizes the prompt, without the oldest turns if it does not fit into the context together with a reply.

        Returns:
            The prompt's token ids and the number of turns that were left out.

        Raises:
            InputError: when not even the last message fits.
        """
        for start in range(0, len(history), 2):
            prompt_ids = tokenize_prompt(self.formatter.prompt(history[start:], emotion), self.formatter)
            if len(prompt_ids) <= self.room:
                return prompt_ids, start
        raise InputError(
            f"the prompt of the last message alone has {len(prompt_ids)} tokens; the model's context of {self.context} "
            f"has room for {self.room} beside generation.max_new_tokens ({self.config.max_new_tokens})"
        )

    def label(self, text: str, emotion: str) -> FoundLabels | None:
        if not self.emotions and not self.gibberish:
            return None
        emotions, gibberish = (classifiers.classify(each, [text])[0] for each in (self.emotions, self.gibberish))
        of_emotion = (emotions.label, emotions.score, emotions.probabilities[emotion]) if emotions else (None,) * 3
        return FoundLabels(*of_emotion, *((gibberish.label, gibberish.score) if gibberish else (None, None)))


def make_request(history: list[Message], emotion: str | None, prompt_ids: Tokens) -> GenerationRequest:
    """A prompt without a gold reply. Its index, from which random numbers are derived, is its number of messages."""
    return GenerationRequest(Dialogue(len(history), history, emotion, ""), "", prompt_ids, [])
