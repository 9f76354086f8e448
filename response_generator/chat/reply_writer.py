"""Writes replies with any of the adapters, shows each while it is written, and labels it."""

from transformers import GenerationConfig

from response_generator.chat.local_model import LocalModel
from response_generator.chat.reply import FoundLabels, Reply, ShowText
from response_generator.chat.server_model import ServerModel
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
from response_generator.modeling.shared_base import find_adapters, load_shared_tokenizer
from response_generator.scoring import classifiers
from response_generator.scoring.best_of import check_choosing_classifiers


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
        model_class = ServerModel if arguments.server else LocalModel
        self.model = model_class(arguments, self.adapters, self.config, self.formatter, self.sample_request)
        self.context = self.model.context
        if len(tokenize_prompt(self.sample_prompt, self.formatter)) > self.room:
            raise InputError(
                f"generation.max_new_tokens: got {self.config.max_new_tokens}; the model's context of {self.context} "
                f"tokens leaves no room for a prompt; set a smaller number"
            )
        self.emotions = self.gibberish = None

    @property
    def sample_emotion(self) -> str | None:
        return self.arguments.target_emotion or self.label_set.default

    @property
    def sample_prompt(self) -> str:
        return self.formatter.prompt(self.formatter.sample_history, self.sample_emotion)

    @property
    def sample_request(self) -> GenerationRequest:
        ids = tokenize_prompt(self.sample_prompt, self.formatter)
        return make_request(self.formatter.sample_history, self.sample_emotion, ids, self.sample_prompt)

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
        self.model.load()
        if self.arguments.scoring:
            self.emotions = classifiers.load_emotion_classifier(self.arguments.scoring)
            self.gibberish = classifiers.load_gibberish_classifier(self.arguments.scoring)

    def find_emotion(self, text: str) -> str | None:
        """The emotion of a message; None without a classifier."""
        return self.emotions.classify([text])[0].label if self.emotions else None

    def write(self, history: list[Message], emotion: str | None, name: str, seed: int, show: ShowText) -> Reply:
        """Writes a reply with the adapter `name`. The best of several is shown when it is chosen.

        Raises:
            InputError: when the last message does not fit into the model's context, or holds special tokens.
            RunError: when memory is not enough, or the server gives no answer.
        """
        if special := self.formatter.special_tokens_in(history[-1:]):
            raise InputError(
                f"the message holds {', '.join(sorted(special))}, which the model cannot tell from the chat template; "
                f"write it in another way"
            )
        prompt_ids, left_out = self.fit(history, emotion)
        request = make_request(history, emotion, prompt_ids)
        tokens, choice = self.model.write(name, request, seed, lambda text: show(name, text))
        text = decode_reply(tokens, self.tokenizer)
        is_cut = tokens[-1] != self.config.eos_token_id
        return Reply(name, emotion, seed, text, len(tokens), is_cut, left_out, self.label(text, emotion), choice)

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


def make_request(
    history: list[Message], emotion: str | None, prompt_ids: Tokens, prompt: str = ""
) -> GenerationRequest:
    """A prompt without a gold reply. Its index, from which random numbers are derived, is its number of messages."""
    return GenerationRequest(Dialogue(len(history), history, emotion, ""), prompt, prompt_ids, [])
