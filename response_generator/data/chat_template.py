"""Renders dialogues with the chat template. Training and evaluation both use this formatter."""

import os
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from response_generator.config.schema import ChatTemplateArguments
from response_generator.data.datasets import Content, Message, get_text
from response_generator.errors import InputError
from response_generator.labels import Labels

SPECIAL_TOKEN_PATTERN = re.compile(r"<\|[^|<>\s]+\|>|<[a-z_]+>|\[/?[A-Z]+\]")  # <|im_start|>, <think>, [INST]
OWN_TEMPLATE = "null (the tokenizer's own template)"
SAMPLE_TEXT = "Hello ."  # user text of the dialogue on which a template is checked
PLAIN_HISTORY = [{"role": "user", "content": SAMPLE_TEXT}]


@dataclass(frozen=True)
class ChatFormatter:
    """A tokenizer and its chat template. Text is tokenized without adding special tokens: the template writes them."""

    tokenizer: PreTrainedTokenizerBase
    file: str
    required_markers: list[str]
    system_prompt: str | None
    labels: Labels
    other_template: bool = False  # the tokenizer came with another template that has a target emotion

    @classmethod
    def of(
        cls, tokenizer: PreTrainedTokenizerBase, arguments: ChatTemplateArguments, labels: Labels
    ) -> "ChatFormatter":
        """Sets the template of `tokenizer`, so that it is saved with the adapter, and checks it on a sample dialogue.

        Raises:
            InputError: when the template cannot be rendered, or does not write the user's text, the target emotion
                where there are labels, or an EOS after a reply.
        """
        original_template = tokenizer.chat_template
        if arguments.file:
            tokenizer.chat_template = read_template(arguments.file)
        elif not original_template:
            raise InputError(
                "chat_template.file: null, but the tokenizer has no chat template of its own; name one, for example "
                "response_generator/data/templates/chatml_emotion.jinja"
            )
        is_other_template = (
            isinstance(original_template, str)
            and "target_emotion" in original_template
            and original_template != tokenizer.chat_template
        )
        formatter = cls(
            tokenizer,
            arguments.file or OWN_TEMPLATE,
            arguments.required_markers,
            arguments.system_prompt,
            labels,
            is_other_template,
        )
        formatter.check_on_samples()
        return formatter

    def check_on_samples(self) -> None:
        """See `of`."""
        self.completion(PLAIN_HISTORY, None, "Hi .")
        if self.labels:
            self.completion(self.sample_history, self.labels.names[0], {"emotion": "", "dialog": "Hi ."})
        prompts = self.sample_prompts
        if SAMPLE_TEXT not in prompts[0]:
            raise InputError(f"chat_template.file: {self.file}: does not write the user's text: {prompts[0]!r}")
        if len(set(prompts)) < len(prompts):
            raise InputError(
                f"chat_template.file: {self.file}: ignores target_emotion: prompts for different emotions are the "
                f"same, {prompts[0]!r}; write {{{{ target_emotion }}}} where add_generation_prompt is set"
            )

    def prompt(self, history: list[Message], target_emotion: str | None) -> str:
        """Renders the prompt of a reply; the target emotion comes last.

        Raises:
            InputError: when the template cannot be rendered, or does not write the history's system message.
        """
        prompt = self.rendered(history, add_generation_prompt=True, target_emotion=target_emotion)
        if history[0]["role"] == "system" and history[0]["content"].strip() not in prompt:
            raise InputError(
                f"chat_template.file: {self.file}: does not write the system message {history[0]['content']!r:.60} of "
                f"the data; use another template, or remove the message"
            )
        return prompt

    def completion(self, history: list[Message], target_emotion: str | None, content: Content) -> str:
        """Renders the reply that follows `prompt`: its text and one EOS, exactly as the template writes them.

        Raises:
            InputError: when the rendered dialogue does not start with its prompt, or has no EOS after the reply.
        """
        if target_emotion is not None and not isinstance(content, str):
            content = {"emotion": target_emotion, "dialog": content["dialog"]}
        prompt = self.prompt(history, target_emotion)
        dialogue = self.rendered([*history, {"role": "assistant", "content": content}], add_generation_prompt=False)
        if not dialogue.startswith(prompt):
            same = len(os.path.commonprefix([dialogue, prompt]))
            raise InputError(
                f"chat_template.file: {self.file}: a dialogue must start with its prompt; after {prompt[:same]!r} the "
                f"prompt goes on with {prompt[same:]!r} and the dialogue with {dialogue[same:]!r}; where "
                f"add_generation_prompt is set, write what stands before a reply, with {{{{ target_emotion }}}} as its "
                f"emotion"
            )
        reply, eos, _ = dialogue[len(prompt) :].partition(self.tokenizer.eos_token)
        if not eos:
            raise InputError(
                f"chat_template.file: {self.file}: no {self.tokenizer.eos_token} after a reply: {dialogue!r}; if "
                f"another token ends a reply, set it as chat_template.special_tokens.eos_token"
            )
        return reply + eos

    def rendered(self, history: list[Message], **variables) -> str:
        system = [{"role": "system", "content": self.system_prompt}] if self.system_prompt else []
        if system and history[0]["role"] == "system":
            raise InputError(
                f"chat_template.system_prompt: got {self.system_prompt!r:.60}, but the data has a system message of "
                f"its own, {history[0]['content']!r:.60}; set it to null, or remove the messages"
            )
        try:
            return self.tokenizer.apply_chat_template([*system, *history], tokenize=False, **variables)
        except Exception as error:  # a template is a program and can raise any exception
            raise InputError(f"chat_template.file: {self.file}: cannot be rendered: {error}") from error

    @cached_property
    def plain_prompt(self) -> str:
        """The prompt of one plain text message without a target emotion; it shows whether the template writes a BOS."""
        return self.prompt(PLAIN_HISTORY, None)

    @property
    def sample_history(self) -> list[Message]:
        """A user message, with the first label if there are labels."""
        if not self.labels:
            return PLAIN_HISTORY
        return [{"role": "user", "content": {"emotion": self.labels.names[0], "dialog": SAMPLE_TEXT}}]

    @cached_property
    def sample_prompts(self) -> list[str]:
        """The prompt of `sample_history` for each label as the target emotion; without labels one prompt."""
        return [self.prompt(self.sample_history, name) for name in self.labels.names or (None,)]

    @cached_property
    def endings(self) -> tuple[str, ...]:
        """The text after the last user message of `sample_prompts`, without trailing spaces."""
        return tuple(prompt.rpartition(SAMPLE_TEXT)[2].rstrip() for prompt in self.sample_prompts)

    @cached_property
    def split_markers(self) -> dict[str, int]:
        """What looks like a special token in a prompt but is none of the tokenizer's, with its number of tokens."""
        markers = SPECIAL_TOKEN_PATTERN.findall(self.sample_prompts[0])
        counts = {marker: len(self.encode(marker)) for marker in markers}
        return {marker: count for marker, count in counts.items() if count > 1}

    def ends_as_in_evaluation(self, prompt: str) -> bool:
        """Whether a prompt ends with the start of a reply and, where there are labels, with one of them."""
        return prompt.rstrip().endswith(self.endings)

    def with_one_bos(self, prompt: str) -> str:
        """Returns a prompt given as text with exactly one BOS at its start, if the template writes a BOS there.

        A token that opens every message, as `<|im_start|>` of SmolLM2, which calls it the BOS, is not put before texts.
        """
        bos = self.tokenizer.bos_token
        if not bos or not self.plain_prompt.startswith(bos) or bos in self.plain_prompt.removeprefix(bos):
            return prompt
        while prompt.startswith(bos):
            prompt = prompt[len(bos) :]
        return bos + prompt

    def with_one_eos(self, completion: str) -> str:
        """Returns a completion given as text with exactly one EOS at its end; other spaces are kept."""
        eos = self.tokenizer.eos_token
        match = re.fullmatch(rf"(.*?)(?:{re.escape(eos)}\s*)+", completion, re.DOTALL)
        return (match[1] if match else completion) + eos

    def missing_markers(self, prompt: str) -> list[str]:
        return [marker for marker in self.required_markers if marker not in prompt]

    def special_tokens_in(self, messages: list[Message]) -> set[str]:
        """Finds special tokens in the text of messages; the model cannot tell them from those of the template."""
        text = " ".join(get_text(message["content"]) for message in messages)
        return {token for token in self.tokenizer.all_special_tokens if token in text}

    def encode(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]


def read_template(file: str) -> str:
    try:
        return Path(file).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"chat_template.file: {file}: is not UTF-8 ({error})") from error
