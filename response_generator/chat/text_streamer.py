"""Shows the text of a reply while its tokens are written."""

from collections.abc import Callable

import torch
from transformers import PreTrainedTokenizerBase
from transformers.generation.streamers import BaseStreamer

from response_generator.generation.generation_requests import Tokens, decode_reply

INCOMPLETE_CHARACTER = "\ufffd"  # at the end of a text: the next token completes it


class TextStreamer(BaseStreamer):
    """Passes on the text of each new token. `generate` calls `put`, first with the prompt; a server's tokens are
    added."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, show: Callable[[str], None]):
        self.tokenizer, self.show = tokenizer, show
        self.has_prompt, self.shown = False, ""
        self.tokens: Tokens = []

    def put(self, value: torch.Tensor) -> None:
        if self.has_prompt:
            self.add(value.tolist())
        self.has_prompt = True

    def add(self, tokens: Tokens) -> None:
        self.tokens += tokens
        text = decode_reply(self.tokens, self.tokenizer)
        if text.startswith(self.shown) and not text.endswith(INCOMPLETE_CHARACTER):
            # Also without new text, because `show` can stop the reply.
            self.show(text[len(self.shown) :])
            self.shown = text

    def end(self) -> None:
        """What was held back, such as an incomplete character, is part of the finished reply."""
