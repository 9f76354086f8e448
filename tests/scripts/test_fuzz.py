"""Whatever args files and rows hold: they are taken, or refused in words, and never a traceback."""

import json
from pathlib import Path

import pyarrow
import pytest
from conftest import HISTORY
from fuzz_strategies import DAMAGE, assignments_of, damaged, edited, edits_of, edits_of_args, fuzzed, listing
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet
from tiny_models import EMOTION_LABELS

from response_generator.cli import preflight
from response_generator.cli.command_line import apply_override
from response_generator.config import strict_json
from response_generator.config.dataset_schema import DatasetArguments
from response_generator.config.preference_schema import PreferenceDataArguments
from response_generator.config.schema import EvaluateArguments
from response_generator.config.training_schema import DPOArguments
from response_generator.config.validation import validate_arguments
from response_generator.data.chat_template import ChatFormatter
from response_generator.data.pair_tokenization import tokenize_pairs
from response_generator.data.raw_rows import count_rows
from response_generator.data.reading import read_dialogues, read_pairs
from response_generator.errors import InputError
from response_generator.generation.generation_requests import GenerationRequest
from response_generator.modeling.tokenizer import load_tokenizer


@pytest.fixture
def room(tmp_path, monkeypatch) -> Path:
    """An empty working folder, to which `~` and the variables of odd values lead."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("ODD", "\udcff")  # bytes that are not UTF-8
    monkeypatch.setenv("HF_TOKEN", "hf_x")
    # Names that lead nowhere are hub ids: the hub would be asked for every one of them.
    monkeypatch.setattr(preflight, "find_hub_errors", lambda sources: [])
    return tmp_path


VARIANTS = {
    "dpo": DPOArguments,
    "new LoRA": DPOArguments,
    "evaluate": EvaluateArguments,
    "from the hub": EvaluateArguments,
    "preferences": PreferenceDataArguments,
}


def full_args(tiny, room: Path, variant: str) -> dict:
    """Args with every section."""
    pairs = {"path": str(tiny.folder / "pairs.jsonl")}
    if VARIANTS[variant] is EvaluateArguments:
        values = tiny.evaluate(room / "run", heldout_pairs={"dataset": pairs, "beta": 0.1})
        names = {"base_model": "a/b", "adapter": "a/b", "dataset": {"path": "a/b"}}
        return values | (names if variant == "from the hub" else {})
    if variant == "preferences":
        values = tiny.preferences(room / "run", push_to_hub={"repo_id": "owner/name"})
        return values | {"reward": {"bias": 0.5}, "pair_selection": "all", "windows": "all"}
    new = {"adapter": None, "lora": {"r": 4, "target_modules": ["q_proj"]}}
    export, hub = {"path": str(room / "merged")}, {"repo_id": "owner/name"}
    return tiny.dpo(room / "run", export=export, push_to_hub=hub, **(new if variant == "new LoRA" else {}))


def inside(room: Path, path: str) -> str:
    return path if Path(path).is_relative_to(room) else f"{room}{path}"


CASES = st.one_of(
    st.tuples(st.just(variant), edits_of_args(model), assignments_of(model)) for variant, model in VARIANTS.items()
)


@fuzzed
@given(case=CASES)
def test_args(tiny, room, case):
    variant, edits, assignments = case
    model = VARIANTS[variant]
    values = edited(full_args(tiny, room, variant), edits)
    before = listing(room)
    for assignment in assignments:
        try:
            apply_override(values, assignment)
        except InputError as error:
            assert error.messages[0].startswith("--set ")
    try:
        arguments = validate_arguments(model, values, "args.json")
    except InputError as error:
        for message in error.messages:
            assert message.startswith("args.json: "), message
            rest = message.removeprefix("args.json: ")
            keys = {strict_json.join_key("", key) for key in {*values, *model.model_fields}}
            assert any(rest.startswith((key + ":", key + ".")) for key in keys), message
        return
    changes = {"output_dir": inside(room, arguments.output_dir)}
    if model is DPOArguments and arguments.export:
        changes["export"] = arguments.export.model_copy(update={"path": inside(room, arguments.export.path)})
    try:
        preflight.check_environment(arguments.model_copy(update=changes))
    except InputError:
        pass
    assert listing(room) == before


TURNS = [*HISTORY, {"role": "assistant", "content": {"emotion": "happiness", "dialog": "You earned it !"}}]
ANGRY = {"role": "assistant", "content": {"emotion": "anger", "dialog": "So what ?"}}
PLAIN = {"role": "assistant", "content": "[EMOTION] fear [/EMOTION] Who is there ?"}
ROWS = {
    "dialogue": {"prompt": TURNS},
    "messages": {"prompt": HISTORY, "chosen": TURNS[-1:], "rejected": [ANGRY], "chosen_score": 9.0},
    "plain": {"prompt": [{"role": "user", "content": "Hi ."}], "chosen": [PLAIN], "rejected": [ANGRY]},
    "labels": {
        **{"prompt": HISTORY, "chosen": TURNS[-1:], "rejected": [ANGRY], "chosen_emotion": "fear"},
        **{"chosen_gibberish_label": "clean", "chosen_gibberish_score": 0.5},
    },
    "text": {"prompt": "[INST] Hi . [/INST]", "chosen": "Hello .", "rejected": "Go .", "rejected_score": 1},
}
ROW_EDITS = st.one_of(st.tuples(st.just(name), edits_of(row)) for name, row in ROWS.items())
FILES = st.sampled_from(["rows.jsonl", "rows.json", "rows.parquet", "folder"])


def write_rows(room: Path, name: str, rows: list) -> Path:
    """Writes rows; as JSON lines where parquet cannot hold them in one column."""
    if name == "rows.parquet":
        try:
            parquet.write_table(pyarrow.Table.from_pylist(rows), room / name)
            return room / name
        except (pyarrow.ArrowException, TypeError, ValueError, OverflowError, AttributeError):
            name = "rows.jsonl"
    if name == "folder":
        (room / "folder").mkdir(exist_ok=True)
        name = "folder/train.jsonl"
    text = json.dumps(rows) if name == "rows.json" else "".join(json.dumps(row) + "\n" for row in rows)
    (room / name).write_text(text, encoding="utf-8")
    return room / name


@pytest.fixture(scope="module")
def formatter(tiny) -> ChatFormatter:
    arguments = DPOArguments.model_validate(tiny.dpo(tiny.folder / "run"))
    return ChatFormatter.of(load_tokenizer(arguments, None), arguments.chat_template, EMOTION_LABELS)


@fuzzed
@given(
    case=ROW_EDITS,
    file=FILES,
    damages=st.just([]) | st.lists(DAMAGE, max_size=2),
    split=st.sampled_from(["train", "test", "x" * 300, "\0", "~", ".."]),
    skip=st.booleans(),
    limit=st.sampled_from([None, 1]),
)
def test_rows(room, formatter, case, file, damages, split, skip, limit):
    name, edits = case
    row = ROWS[name]
    place = write_rows(room, file, [row, edited(row, edits), row])
    place.write_bytes(damaged(place.read_bytes(), damages))
    path = str(place.parent if file == "folder" else place)
    dataset = DatasetArguments(path=path, split=split, skip_bad_rows=skip, limit=limit)
    before = listing(room)
    try:
        rows, skipped = (read_dialogues if name == "dialogue" else read_pairs)(dataset, EMOTION_LABELS)
        if name == "dialogue":
            assert all(GenerationRequest.of(dialogue, formatter).prompt_ids for dialogue in rows)
        else:
            assert tokenize_pairs(rows, formatter, 256).rows
    except InputError as error:
        assert error.messages
    else:
        if limit is None:
            assert count_rows(dataset) == len(rows) + skipped.total()
    try:
        count_rows(dataset)
    except InputError:
        pass
    assert listing(room) == before
