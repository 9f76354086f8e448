"""The one formatter: what training learns from and what evaluation generates from are written by the same code."""

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from response_generator.config.schema import ChatTemplateArguments
from response_generator.constants import EMOTIONS
from response_generator.data.datasets import Content, Message
from response_generator.errors import InputError

SAMPLE_TEXT = "Hello ."  # of the exchange on which a template is checked
SAMPLE_HISTORY = [{"role": "user", "content": {"emotion": "neutral", "dialog": SAMPLE_TEXT}}]


@dataclass(frozen=True)
class ChatFormatter:
    """A tokenizer with its template. Text is always tokenized without special tokens: the template writes them."""

    tokenizer: PreTrainedTokenizerBase
    file: str
    required_markers: list[str]
    system_prompt: str | None
    other_template: bool = False  # the tokenizer came with one for a target emotion, and it is not this one

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase, arguments: ChatTemplateArguments) -> "ChatFormatter":
        """Gives `tokenizer` the template, so that it is saved with the adapter, and checks it on one exchange.

        Raises:
            InputError: when the template cannot be rendered, or leaves out the user's words, the target emotion, or
                the EOS after a reply.
        """
        brought = tokenizer.chat_template
        try:
            tokenizer.chat_template = Path(arguments.file).read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise InputError(f"chat_template.file: {arguments.file}: is not UTF-8 ({error})") from error
        other = isinstance(brought, str) and "target_emotion" in brought and brought != tokenizer.chat_template
        formatter = cls(tokenizer, arguments.file, arguments.required_markers, arguments.system_prompt, other)
        formatter.completion(SAMPLE_HISTORY, "neutral", {"emotion": "neutral", "dialog": "Hi ."})
        formatter.completion([{"role": "user", "content": SAMPLE_TEXT}], None, "Hi .")
        prompts = [formatter.prompt(SAMPLE_HISTORY, emotion) for emotion in EMOTIONS]
        if SAMPLE_TEXT not in prompts[0]:
            raise InputError(f"chat_template.file: {arguments.file}: does not write the user's words: {prompts[0]!r}")
        if len(set(prompts)) < len(EMOTIONS):
            raise InputError(
                f"chat_template.file: {arguments.file}: ignores target_emotion: prompts for different emotions are the "
                f"same, {prompts[0]!r}; write {{{{ target_emotion }}}} where add_generation_prompt is set"
            )
        return formatter

    def prompt(self, history: list[Message], target_emotion: str | None) -> str:
        """Renders everything the model sees before it writes; the target emotion comes last."""
        return self.rendered(history, add_generation_prompt=True, target_emotion=target_emotion)

    def completion(self, history: list[Message], target_emotion: str | None, content: Content) -> str:
        """Renders what the model is to write after `prompt`: the words and one EOS, exactly as the template has them.

        Raises:
            InputError: when the template does not continue its own prompt, or writes no EOS after a reply.
        """
        if target_emotion is not None and not isinstance(content, str):
            content = {"emotion": target_emotion, "dialog": content["dialog"]}
        prompt = self.prompt(history, target_emotion)
        whole = self.rendered([*history, {"role": "assistant", "content": content}], add_generation_prompt=False)
        if not whole.startswith(prompt):
            raise InputError(f"chat template: a reply does not continue its prompt: {whole!r} after {prompt!r}")
        words, eos, _ = whole[len(prompt) :].partition(self.tokenizer.eos_token)
        if not eos:
            raise InputError(f"chat template: no {self.tokenizer.eos_token} after a reply: {whole!r}")
        return words + eos

    def rendered(self, history: list[Message], **variables) -> str:
        system = [{"role": "system", "content": self.system_prompt}] if self.system_prompt else []
        try:
            return self.tokenizer.apply_chat_template([*system, *history], tokenize=False, **variables)
        except Exception as error:  # a template is a program, and may fail in any way
            raise InputError(f"chat_template.file: {self.file}: cannot be rendered: {error}") from error

    @cached_property
    def plain_prompt(self) -> str:
        """The prompt of one plain message, without a target emotion: whether the template begins with a BOS."""
        return self.prompt([{"role": "user", "content": SAMPLE_TEXT}], None)

    @cached_property
    def endings(self) -> tuple[str, ...]:
        """What follows the user's last words in a prompt, for each target emotion; without spaces at the end."""
        return tuple(self.prompt(SAMPLE_HISTORY, emotion).rpartition(SAMPLE_TEXT)[2].rstrip() for emotion in EMOTIONS)

    def asks_for_emotion(self, prompt: str) -> bool:
        """Whether a prompt ends as this template's prompts do in evaluation, with a target emotion."""
        return prompt.rstrip().endswith(self.endings)

    def with_one_bos(self, prompt: str) -> str:
        """A prompt that came as text: one BOS at its head where the template writes one, none doubled."""
        bos = self.tokenizer.bos_token
        if not bos or not self.plain_prompt.startswith(bos):
            return prompt
        while prompt.startswith(bos):
            prompt = prompt[len(bos) :]
        return bos + prompt

    def with_one_eos(self, completion: str) -> str:
        """A completion that came as text, spaces and all: one EOS at its end, none doubled."""
        eos = self.tokenizer.eos_token
        written = re.fullmatch(rf"(.*?)(?:{re.escape(eos)}\s*)+", completion, re.DOTALL)
        return (written[1] if written else completion) + eos

    def missing_markers(self, prompt: str) -> list[str]:
        return [marker for marker in self.required_markers if marker not in prompt]

    def special_tokens_in(self, messages: list[Message]) -> set[str]:
        """The special tokens that stand in people's words, where the model takes them for the template's own."""
        contents = [message["content"] for message in messages]
        words = " ".join(content if isinstance(content, str) else content["dialog"] for content in contents)
        return {token for token in self.tokenizer.all_special_tokens if token in words}

    def encode(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]
