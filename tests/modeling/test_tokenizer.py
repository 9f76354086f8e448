"""The tokenizer of an adapter encodes as its tokenizer.json does, and rows of plain text are used unchanged."""

import json
import shutil

import pytest
from conftest import LLAMA2, published_dpo
from published_models import MARKERS
from tiny_models import EMOTION_LABELS
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from response_generator.config.training_schema import DPOArguments
from response_generator.config.validation import validate_arguments
from response_generator.data.chat_template import ChatFormatter
from response_generator.data.datasets import parse_pair
from response_generator.data.pair_tokenization import tokenize_pairs
from response_generator.errors import InputError
from response_generator.modeling.adapter_file import AdapterFile
from response_generator.modeling.tokenizer import check_token_ids, load_tokenizer
from response_generator.training.monitoring.samples import build_request

TEXTS = (
    "<s>[INST] [EMOTION] fear [/EMOTION] Who is there ? [/INST] [EMOTION] neutral [/EMOTION] ",
    "[/EMOTION] Hello . </s>\n",
    "[/EMOTION]Hello",
    "  neutral   Hello .  ",
)


@pytest.fixture(scope="module")
def arguments(tiny, published, tmp_path_factory):
    values = published_dpo(tiny, published, tmp_path_factory.mktemp("run"), "adapter_two_tables")
    return validate_arguments(DPOArguments, values, "args.json")


@pytest.fixture(scope="module")
def tokenizer(arguments, published):
    return load_tokenizer(arguments, AdapterFile.read(published / "adapter_two_tables"))


def encode(tokenizer, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def test_the_tokenizer_of_an_adapter_encodes_as_its_file(tokenizer, published, tmp_path):
    written = Tokenizer.from_file(str(published / "adapter_two_tables" / "tokenizer.json"))
    expected = [written.encode(text, add_special_tokens=False).ids for text in TEXTS]
    assert [encode(tokenizer, text) for text in TEXTS] == expected
    # The class that AutoTokenizer chooses encodes every one of the texts differently.
    automatic = AutoTokenizer.from_pretrained(published / "adapter_two_tables")
    assert [encode(automatic, text) == tokens for text, tokens in zip(TEXTS, expected, strict=True)].count(True) == 0
    # Saved with the trained adapter, it encodes the same when AutoTokenizer loads it.
    tokenizer.save_pretrained(tmp_path)
    assert [encode(AutoTokenizer.from_pretrained(tmp_path), text) for text in TEXTS] == expected


def test_a_tokenizer_that_differs_from_its_file_is_refused(published, tokenizer):
    folder = published / "adapter_two_tables"
    check_token_ids(tokenizer, folder)
    with pytest.raises(InputError, match="the loaded tokenizer encodes .* its tokenizer.json as .* has not learned"):
        check_token_ids(AutoTokenizer.from_pretrained(folder), folder)


def test_special_tokens_that_change_the_encoding_are_refused(arguments, published, tmp_path):
    folder = tmp_path / "adapter"
    shutil.copytree(published / "adapter_two_tables", folder)
    written = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    for token in written["added_tokens"]:
        if token["content"] == "[INST]":
            token["rstrip"] = True  # includes the space after it, unlike the [INST] of the args
    (folder / "tokenizer.json").write_text(json.dumps(written), encoding="utf-8")
    with pytest.raises(InputError, match=r"chat_template.special_tokens"):
        load_tokenizer(arguments, AdapterFile.read(folder))


def test_rows_of_plain_text_are_used_unchanged(arguments, tokenizer, published):
    formatter = ChatFormatter.of(tokenizer, arguments.chat_template, EMOTION_LABELS)
    row = {"prompt": "   neutral   Hello ?     neutral   ", "chosen": " Fine . ", "rejected": "Go "}
    (tokens,) = tokenize_pairs([parse_pair(0, row, EMOTION_LABELS)], formatter, None).rows
    written = Tokenizer.from_file(str(published / "adapter_two_tables" / "tokenizer.json"))
    for side in ("chosen", "rejected"):
        ids = tokens["prompt_ids"] + tokens[f"{side}_ids"]
        assert ids == written.encode(f"<s>{row['prompt']}{row[side]}</s>", add_special_tokens=False).ids
        assert written.id_to_token(ids[-2]) == "▁" and ids[-1] == tokenizer.eos_token_id
    assert tokens["prompt_ids"].count(tokenizer.bos_token_id) == 1


def test_rows_of_plain_text_are_split_as_the_authors_split_them(arguments, tokenizer, published):
    """At the end of the prompt's own tokens, where both completions start with a space; samples continue there too."""
    formatter = ChatFormatter.of(tokenizer, arguments.chat_template, EMOTION_LABELS)
    written = Tokenizer.from_file(str(published / "adapter_two_tables" / "tokenizer.json"))
    row = {"prompt": "   neutral   Hello ?     neutral    ", "chosen": " Fine . ", "rejected": " Go "}
    for reply in ("Fine . ", "5 of them . ", '" No . '):
        pair = parse_pair(0, row | {"chosen": f" {reply}"}, EMOTION_LABELS)
        (tokens,) = tokenize_pairs([pair], formatter, None).rows
        assert tokens["prompt_ids"] == written.encode(f"<s>{row['prompt']}", add_special_tokens=False).ids
        assert build_request(pair, formatter).prompt_ids == tokens["prompt_ids"]
    # Without the space, the last spaces of the prompt and the reply's first word are tokenized together.
    pair = parse_pair(0, row | {"chosen": "Fine . "}, EMOTION_LABELS)
    (other,) = tokenize_pairs([pair], formatter, None).rows
    assert len(other["prompt_ids"]) < len(tokens["prompt_ids"])
    assert build_request(pair, formatter).prompt_ids == other["prompt_ids"]


def test_the_published_template_gives_the_tokens_of_the_authors(arguments, tokenizer):
    assert arguments.chat_template.file == LLAMA2
    formatter = ChatFormatter.of(tokenizer, arguments.chat_template, EMOTION_LABELS)
    history = [{"role": "user", "content": {"emotion": "fear", "dialog": " Hello "}}]
    prompt = tokenizer.convert_ids_to_tokens(formatter.encode(formatter.prompt(history, "neutral")))
    reply = {"emotion": "neutral", "dialog": "Hello "}
    text = formatter.prompt(history, "neutral") + formatter.completion(history, "neutral", reply)
    whole = tokenizer.convert_ids_to_tokens(formatter.encode(text))
    assert prompt[:2] == ["<s>", "[INST]"] and set(MARKERS) <= set(prompt)
    # At the end of the prompt, the space and the "▁" that the normalizer adds are one token. Before a word they are two
    # tokens, as in the text that the adapter was trained on.
    assert prompt[-2:] == ["[/EMOTION]", "▁▁"]
    assert whole[len(prompt) - 1 :] == ["▁", "▁He", "ll", "o", "▁", "</s>"]
