"""Token ids of a prompt and of the completions after it: the same in training, in generation and for gold replies."""

import os

from response_generator.data.chat_template import ChatFormatter

PROBE_REPLY = "Hello"  # decides where the ids of a prompt end; an ordinary word, as most replies begin with
# Written before a text to tokenize it as in the middle of another one. The second is for texts that begin with spaces.
TEXTS_BEFORE = ("\n", "a")


def tokenize_prompt(prompt: str, formatter: ChatFormatter, spaces: str = "") -> list[int]:
    """Returns the ids after which a model writes its reply. They depend on no reply.

    A prompt's last tokens can be others when a reply follows. Llama 2's tokenizer writes "[/EMOTION] " as `[/EMOTION]`
    `▁▁`, and "[/EMOTION] Hello" as `[/EMOTION]` `▁` `▁Hello`. The prompt ends with the last token that stays the same
    when PROBE_REPLY follows; the text after that token is written by the model, as the start of its reply.

    Args:
        spaces: with which every reply to this prompt starts; rows of plain text alone have any.
    """
    return os.path.commonprefix([formatter.encode(prompt), formatter.encode(prompt + spaces + PROBE_REPLY)])


def tokenize_prompt_and_completions(
    prompt: str, completions: tuple[str, ...], formatter: ChatFormatter, spaces: str = ""
) -> tuple[list[int], list[list[int]], bool]:
    """Tokenizes completions after a prompt. For `spaces` see `tokenize_prompt`.

    The ids of a completion are those that follow the prompt's ids when both texts are tokenized together. If that
    changes the prompt's ids (" th" before "e", because " the" is one token), the text after the prompt's ids is
    tokenized alone. In both cases, the ids of prompt and completion together are those of the whole text.

    Returns:
        The ids of `tokenize_prompt`, the ids of each completion, and whether any was tokenized alone.
    """
    prompt_ids = tokenize_prompt(prompt, formatter, spaces)
    wholes = [formatter.encode(prompt + completion) for completion in completions]
    merged = [whole[: len(prompt_ids)] != prompt_ids for whole in wholes]
    rest = prompt[count_characters(prompt, len(prompt_ids), formatter) :] if any(merged) else ""
    completion_ids = [
        encode_inside(rest + completion, formatter) if is_merged else whole[len(prompt_ids) :]
        for completion, whole, is_merged in zip(completions, wholes, merged, strict=True)
    ]
    return prompt_ids, completion_ids, any(merged)


def count_characters(text: str, tokens: int, formatter: ChatFormatter) -> int:
    """Returns how many characters of a text its first tokens cover."""
    offsets = formatter.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    return offsets[tokens - 1][1] if tokens else 0


def encode_inside(text: str, formatter: ChatFormatter) -> list[int]:
    """Returns the ids of a text inside another one: without the space that some tokenizers add before a text."""
    for before in TEXTS_BEFORE:
        start, whole = formatter.encode(before), formatter.encode(before + text)
        if whole[: len(start)] == start:
            return whole[len(start) :]
    return formatter.encode(text)
