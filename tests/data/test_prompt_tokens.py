"""Where a prompt's token ids end, and which ids a completion has after them."""

import pytest
from conftest import HISTORY, LLAMA2
from published_models import write_published_tokenizer
from tiny_models import EMOTION_LABELS, SPECIAL_TOKENS, write_tiny_tokenizer

from response_generator.config.schema import ChatTemplateArguments
from response_generator.data.chat_template import ChatFormatter
from response_generator.data.prompt_tokens import tokenize_prompt, tokenize_prompt_and_completions


@pytest.fixture(scope="module")
def llama2(tmp_path_factory) -> ChatFormatter:
    tokenizer = write_published_tokenizer(tmp_path_factory.mktemp("published"))
    return ChatFormatter.of(tokenizer, ChatTemplateArguments(file=LLAMA2), EMOTION_LABELS)


@pytest.fixture(scope="module")
def byte_level(tmp_path_factory) -> ChatFormatter:
    named = {"bos_token": "<s>", "eos_token": "</s>"}
    tokenizer = write_tiny_tokenizer(tmp_path_factory.mktemp("byte_level"), SPECIAL_TOKENS, **named)
    return ChatFormatter.of(tokenizer, ChatTemplateArguments(file=LLAMA2), EMOTION_LABELS)


def tokenize(formatter: ChatFormatter, prompt: str, completion: str) -> tuple[list[str], list[str], bool]:
    """`tokenize_prompt_and_completions`, with tokens instead of their ids."""
    prompt_ids, (completion_ids,), merged = tokenize_prompt_and_completions(prompt, (completion,), formatter)
    names = formatter.tokenizer.convert_ids_to_tokens
    return names(prompt_ids), names(completion_ids), merged


@pytest.mark.parametrize(
    ("reply", "start"),
    [("Hello", ["▁", "▁He"]), ("5", ["▁▁", "5"]), ("¡", ["▁▁", "<unk>"]), ("🙂", ["▁▁", "<unk>"])],
)
def test_the_space_after_the_published_prompt_is_the_start_of_the_reply(reply, start, llama2):
    """Whichever of its tokenizations the reply brings with it."""
    prompt = llama2.prompt(HISTORY, "happiness")
    assert prompt.endswith("[/EMOTION] ")
    prompt_tokens, reply_tokens, merged = tokenize(llama2, prompt, reply + " </s>")
    assert (prompt_tokens[-1], reply_tokens[:2], merged) == ("[/EMOTION]", start, False)


def test_a_completion_that_changes_its_prompts_last_token_is_tokenized_alone(byte_level, llama2):
    for formatter, prompt, completion, expected in (
        (byte_level, "a th", "e", (["a", "Ġth"], ["e"], True)),
        (byte_level, "a th", "ing", (["a", "Ġth"], ["ing"], False)),
        (llama2, "I like th", "e", (["▁I", "▁like", "▁th"], ["e"], True)),  # without the "▁" before a text
    ):
        assert tokenize(formatter, prompt, completion) == expected
        whole = formatter.encode(prompt + completion)
        assert (whole[: len(expected[0])] == tokenize_prompt(prompt, formatter)) is not expected[2]


TEXTS = [
    "",
    "th",
    "e",
    " ",
    "  ",
    "\n",
    "\n\n",
    "1",
    "12",
    "¡",
    "\"'",
    "...",
    "🙂",
    "é",
    "Hello",
    "s",
    " the",
    ")",
    "<s>",
]


def test_prompt_and_completion_decode_to_their_text_and_no_completion_changes_the_prompt(byte_level):
    count = 0
    for prompt in (f"<s>Hi{first}{second}" for first in TEXTS for second in TEXTS):
        completions = tuple(f"{first}{second}</s>" for first in TEXTS[1:] for second in ("", "e"))
        prompt_ids, completion_ids, merged = tokenize_prompt_and_completions(prompt, completions, byte_level)
        assert prompt_ids == tokenize_prompt(prompt, byte_level)
        texts = [byte_level.tokenizer.decode(prompt_ids + ids) for ids in completion_ids]
        assert texts == [prompt + completion for completion in completions]
        count += merged
    assert count > 20
