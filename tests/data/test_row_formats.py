"""The row formats of TRL, labels beside role and content, and columns of other names; with and without labels."""

import pytest
import trl
from conftest import write_rows
from datasets import Dataset
from tiny_models import write_tiny_tokenizer
from tokenizers.processors import TemplateProcessing

from response_generator.cli import preview
from response_generator.config.dataset_schema import DatasetArguments, PairDatasetArguments
from response_generator.config.schema import ChatTemplateArguments
from response_generator.data.chat_template import ChatFormatter
from response_generator.data.datasets import Dialogue, parse_dialogue, parse_pair
from response_generator.data.dialogue_tokenization import tokenize_dialogues
from response_generator.data.pair_text import find_target_emotion
from response_generator.data.pair_tokenization import tokenize_pairs
from response_generator.data.reading import read_dialogues, read_pairs
from response_generator.data.row_formats import normalize_dialogue, normalize_pair
from response_generator.errors import InputError
from response_generator.labels import Labels

NO_LABELS = Labels((), None)
POLITE = Labels(("polite", "rude"), None)
# TRL's dataset formats, with the examples of its documentation.
SYSTEM = {"role": "system", "content": "Answer in one sentence."}
QUESTION = {"role": "user", "content": "What color is the sky?"}
BLUE, GREEN = ({"role": "assistant", "content": f"It is {color}."} for color in ("blue", "green"))
STANDARD = {"prompt": "The sky is", "chosen": " blue.", "rejected": " green."}
CONVERSATION = {"prompt": [QUESTION], "chosen": [BLUE], "rejected": [GREEN]}
SHARED_TEXT = {"chosen": "The sky is blue.", "rejected": "The sky is green."}
SHARED_TURNS = {"chosen": [QUESTION, BLUE], "rejected": [QUESTION, GREEN]}
PAIRS = {
    "texts": STANDARD,
    "messages": CONVERSATION,
    "texts that begin alike": SHARED_TEXT,
    "conversations that begin alike": SHARED_TURNS,
    "a text beside conversations that begin alike": {"prompt": "What color is the sky?"} | SHARED_TURNS,
    "a system message": {"prompt": [SYSTEM, QUESTION], "chosen": [BLUE], "rejected": [GREEN]},
    "several turns": {"prompt": [QUESTION, BLUE, QUESTION], "chosen": [BLUE], "rejected": [GREEN]},
}
OWN_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|im_start|>{{ message.role + '\n' + message.content + eos_token }}"
    "{% if not loop.last or message.role != 'assistant' %}{{ '\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    """It writes a BOS before a text, as Llama's does, and has a chat template of its own."""
    named = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    tokenizer = write_tiny_tokenizer(tmp_path_factory.mktemp("t"), [*named.values(), "<|im_start|>"], **named)
    bos = [("<s>", tokenizer.bos_token_id)]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=bos)
    tokenizer.chat_template = OWN_TEMPLATE
    return tokenizer


@pytest.fixture(scope="module")
def formatter(tokenizer) -> ChatFormatter:
    return ChatFormatter.of(tokenizer, ChatTemplateArguments(), NO_LABELS)


def tokenize_by_us(row: dict, formatter: ChatFormatter) -> dict[str, list[int]]:
    pair = parse_pair(0, normalize_pair(row, {}), NO_LABELS)
    return tokenize_pairs([pair], formatter, None).rows[0]


def tokenize_by_trl(row: dict, tokenizer) -> dict[str, list[int]]:
    """A row as TRL's DPOTrainer tokenizes it. Only the methods of the trainer that need no model run."""
    trainer = object.__new__(trl.DPOTrainer)
    trainer._tokenizer = tokenizer
    config = trl.DPOConfig(output_dir="unused", bf16=False, max_length=None)
    rows = trainer._prepare_dataset(Dataset.from_list([row]), tokenizer, config, "train")
    return {name: rows[0][name] for name in ("prompt_ids", "chosen_ids", "rejected_ids")}


@pytest.mark.parametrize("name", [name for name in PAIRS if name != "a text beside conversations that begin alike"])
def test_rows_of_trl_have_its_token_ids(formatter, name):
    assert tokenize_by_us(PAIRS[name], formatter) == tokenize_by_trl(PAIRS[name], formatter.tokenizer)


def test_what_a_template_writes_after_the_eos_is_left_out_unlike_by_trl(tokenizer, monkeypatch):
    monkeypatch.setattr(tokenizer, "chat_template", OWN_TEMPLATE.replace("{% if not loop.last or", "{% if true or"))
    row = tokenize_by_us(CONVERSATION, ChatFormatter.of(tokenizer, ChatTemplateArguments(), NO_LABELS))
    newline = tokenizer("\n", add_special_tokens=False)["input_ids"]
    for side in ("chosen_ids", "rejected_ids"):
        row[side] = row[side] + newline
    assert row == tokenize_by_trl(CONVERSATION, tokenizer)


@pytest.mark.parametrize(
    "row",
    [
        *(row for name, row in PAIRS.items() if "begin alike" in name),
        {"chosen": "Human: Hi. Bot: Hello", "rejected": "Human: Hi. Bot: Hello there"},  # one continues the other
        {"chosen": [QUESTION, BLUE, QUESTION, BLUE], "rejected": [QUESTION, BLUE, QUESTION, GREEN]},
    ],
)
def test_a_shared_start_is_split_as_by_trl(row):
    expected = trl.data_utils.maybe_extract_prompt(row)
    normalized = normalize_pair(row, {})
    assert {key: normalized[key] for key in expected} == expected
    assert normalized["has_shared_start"]


def test_pairs_without_a_prompt_of_their_own_are_counted(formatter, capsys):
    pairs = [parse_pair(0, normalize_pair(row, {}), NO_LABELS) for row in PAIRS.values()]
    preview.show_counts("training", tokenize_pairs(pairs, formatter, None), formatter)
    said = " ".join(capsys.readouterr().out.split())
    assert "3 pairs have no prompt of their own: it is what chosen and rejected begin with" in said
    # The two rows of texts are not rendered; the messages are, and nothing is missing in them.
    assert "2 of 7 pairs are plain text, which is used unchanged: no roles are added to it" in said
    assert "without a target emotion" not in said


def test_a_dialogue_of_plain_messages_has_the_ids_of_the_template(formatter):
    turns = [SYSTEM, QUESTION, BLUE, QUESTION, GREEN]
    dialogue = parse_dialogue(0, normalize_dialogue({"messages": turns}, {}), NO_LABELS)
    assert dialogue == Dialogue(0, turns[:-1], None, "It is green.")
    tokens = tokenize_dialogues([dialogue], formatter, None, "all")
    (row,) = tokens.rows
    assert row["input_ids"] == formatter.tokenizer.apply_chat_template(turns, tokenize=True)["input_ids"]
    learned = [token for token in row["labels"] if token != -100]
    assert formatter.tokenizer.decode(learned) == "It is blue.</s>It is green.</s>"
    assert tokens.replies == 2


def write(tmp_path, rows, **arguments) -> PairDatasetArguments:
    return PairDatasetArguments(path=write_rows(tmp_path / "rows.jsonl", rows), **arguments)


def test_labels_stand_beside_role_and_content(tmp_path):
    row = {
        "prompt": [QUESTION | {"label": "rude"}, BLUE, QUESTION],
        "chosen": [BLUE | {"emotion": "polite", "label": None}],
        "rejected": [GREEN],
    }
    ((pair,), _) = read_pairs(write(tmp_path, [row]), POLITE)
    assert [turn["content"] for turn in pair.prompt] == [
        {"emotion": "rude", "dialog": "What color is the sky?"},
        "It is blue.",
        "What color is the sky?",
    ]
    assert pair.chosen == {"emotion": "polite", "dialog": "It is blue."}
    turns = [SYSTEM, QUESTION, BLUE | {"label": "rude"}]
    ((dialogue,), _) = read_dialogues(write(tmp_path, [{"messages": turns}]), POLITE)
    assert dialogue == Dialogue(0, [SYSTEM, QUESTION], "rude", "It is blue.")
    with pytest.raises(InputError, match="turn 2: content is text; needed: text with a label beside it"):
        read_dialogues(write(tmp_path, [{"messages": [QUESTION, BLUE]}]), POLITE)


def test_unknown_labels_are_counted_over_all_rows(tmp_path):
    def row(*labels):
        return {"messages": [turn | {"label": label} for turn, label in zip((QUESTION, BLUE), labels, strict=True)]}

    rows = [row("polite", "kind"), row("cold", "kind"), row("rude", "kind"), row("rude", "polite")]
    with pytest.raises(InputError) as error:
        read_dialogues(write(tmp_path, rows), POLITE)
    summary, *lines = error.value.messages
    assert summary.endswith(
        "labels that are not in the args: 'kind' (rows: 3), 'cold' (rows: 1); add them to labels, or change the rows"
    )
    assert lines[1].endswith("line 2: prompt, turn 1: emotion is 'cold'; allowed: polite, rude")
    assert len(lines) == 3


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (CONVERSATION | {"chosen": [BLUE | {"label": "joy"}]}, "chosen: has the label 'joy', but labels is []"),
        (CONVERSATION | {"chosen": [BLUE | {"label": "a", "emotion": "b"}]}, "chosen, turn 1: has more than one label"),
        ({"chosen": "Blue.", "rejected": "Green."}, "has no prompt of the same form as chosen and rejected, and these"),
        (CONVERSATION | {"prompt": "What color?"}, "has no prompt of the same form as chosen and rejected, and these"),
        ({"chosen": "Blue.", "rejected": [GREEN]}, "has no prompt, and chosen is text and rejected a list"),
        (CONVERSATION | {"prompt": [QUESTION, SYSTEM]}, "turn 2: role is 'system'; needed: 'assistant'"),
        (CONVERSATION | {"prompt": [SYSTEM]}, "prompt ends with system"),
        (CONVERSATION | {"prompt": [SYSTEM | {"content": ""}, QUESTION]}, "turn 1: content is empty; needed: text"),
        (SHARED_TURNS | {"chosen": [QUESTION, BLUE, QUESTION]}, "chosen is a list of 2; needed: a list of one"),
    ],
)
def test_a_row_of_no_format_is_refused(tmp_path, row, words):
    with pytest.raises(InputError) as error:
        read_pairs(write(tmp_path, [CONVERSATION, row]), NO_LABELS)
    (message,) = error.value.messages
    assert "rows.jsonl, line 2: " in message
    assert words in message


def test_columns_have_other_names(tmp_path):
    row = {"question": "The sky is", "good": " blue.", "bad": " green.", "prompt": "not used"}
    columns = {"prompt": "question", "chosen": "good", "rejected": "bad"}
    ((pair,), _) = read_pairs(write(tmp_path, [row], columns=columns), NO_LABELS)
    assert (pair.prompt, pair.chosen, pair.rejected) == ("The sky is", " blue.", " green.")
    swapped = write(tmp_path, [STANDARD], columns={"chosen": "rejected", "rejected": "chosen"})
    ((pair,), _) = read_pairs(swapped, NO_LABELS)
    assert (pair.chosen, pair.rejected) == (" green.", " blue.")
    with pytest.raises(InputError, match="has no god, named in columns; its columns: question, good, bad, prompt"):
        read_pairs(write(tmp_path, [row], columns=columns | {"chosen": "god"}), NO_LABELS)
    conversations = DatasetArguments(
        path=write_rows(tmp_path / "d.jsonl", [{"talk": [QUESTION, BLUE]}]), columns={"messages": "talk"}
    )
    ((dialogue,), _) = read_dialogues(conversations, NO_LABELS)
    assert dialogue.gold_response == "It is blue."


def test_the_last_reply_of_a_dialogue_is_in_a_column_of_its_own(tmp_path):
    row = {"prompt": [SYSTEM, QUESTION], "completion": [BLUE | {"label": "rude"}]}  # TRL's prompt and completion
    ((dialogue,), _) = read_dialogues(write(tmp_path, [row]), POLITE)
    assert dialogue == Dialogue(0, [SYSTEM, QUESTION], "rude", "It is blue.")
    chosen = DatasetArguments(
        path=write_rows(tmp_path / "pairs.jsonl", [CONVERSATION]), columns={"completion": "chosen"}
    )
    ((dialogue,), _) = read_dialogues(chosen, NO_LABELS)
    assert dialogue == Dialogue(0, [QUESTION], None, "It is blue.")


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"prompt": [QUESTION], "completion": " blue."}, "completion is text; needed: a list of messages"),
        ({"prompt": "The sky is", "completion": [BLUE]}, "prompt is text; needed: a list of messages"),
        ({"prompt": [QUESTION, BLUE], "completion": [GREEN]}, "prompt, turn 3: role is 'assistant'; needed: 'user'"),
        ({"prompt": [QUESTION], "completion": []}, "prompt ends with user"),
    ],
)
def test_a_reply_that_does_not_follow_its_dialogue_is_refused(tmp_path, row, words):
    with pytest.raises(InputError, match=words):
        read_dialogues(write(tmp_path, [row]), NO_LABELS)


@pytest.mark.parametrize(
    ("prompt", "target"),
    [
        ("[INST] Hi . [/INST] [EMOTION] very polite [/EMOTION] ", "very polite"),
        ("<|im_start|>assistant polite\n", "polite"),
        ("Hi .\nc++ ", "c++"),
        ("Hi , impolite", None),
        ("polite Hi .", None),
    ],
)
def test_a_text_prompt_ends_with_its_label(prompt, target):
    pair = parse_pair(0, STANDARD | {"prompt": prompt}, NO_LABELS)
    assert find_target_emotion(pair, Labels(("polite", "very polite", "c++"), None)) == target
    assert find_target_emotion(pair, NO_LABELS) is None


def test_a_system_message_must_be_written_and_be_the_only_one(tokenizer, monkeypatch):
    pair = parse_pair(0, normalize_pair(PAIRS["a system message"], {}), NO_LABELS)
    second = ChatFormatter.of(tokenizer, ChatTemplateArguments(system_prompt="Be kind."), NO_LABELS)
    with pytest.raises(InputError, match="chat_template.system_prompt: got 'Be kind.', but the data has a system"):
        tokenize_pairs([pair], second, None)
    changed = OWN_TEMPLATE.replace("in messages", "in messages if message.role != 'system'")
    monkeypatch.setattr(tokenizer, "chat_template", changed)
    formatter = ChatFormatter.of(tokenizer, ChatTemplateArguments(), NO_LABELS)
    with pytest.raises(InputError, match="does not write the system message 'Answer in one sentence.' of the data"):
        tokenize_pairs([pair], formatter, None)


def test_the_tokenizer_may_have_no_template(tmp_path):
    tokenizer = write_tiny_tokenizer(tmp_path, ["</s>"], eos_token="</s>")
    with pytest.raises(InputError, match="chat_template.file: null, but the tokenizer has no chat template"):
        ChatFormatter.of(tokenizer, ChatTemplateArguments(), NO_LABELS)


def test_with_labels_the_template_of_the_tokenizer_must_have_a_target(tokenizer):
    with pytest.raises(InputError, match=r"null \(the tokenizer's own template\): cannot be rendered: can only conc"):
        ChatFormatter.of(tokenizer, ChatTemplateArguments(), POLITE)
