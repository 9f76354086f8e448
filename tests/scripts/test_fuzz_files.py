"""Whatever an adapter's files and a file of predictions hold: they are taken, or refused in words."""

import json
import math
import re
import struct
from pathlib import Path
from typing import Any

import pytest
from conftest import HISTORY
from fuzz_strategies import DAMAGE, damaged, edited, edits_of, edits_of_kinds, fuzzed, listing
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import EMOTION_LABELS
from transformers import PretrainedConfig

from response_generator.config.library.library_keywords import JSON_TYPE_OF_PYTHON_TYPE, accepted_json_types
from response_generator.config.training_schema import DPOArguments
from response_generator.errors import InputError
from response_generator.evaluation.predictions_file import GENERATED_FIELDS, group_by_model, read_predictions
from response_generator.evaluation.scores import list_scored_fields
from response_generator.modeling.adapter_file import AdapterFile
from response_generator.modeling.base_config import load_config

CONFIG_FIELDS = {(name,): kinds for name, kinds in accepted_json_types("lora").items()} | {
    (name,): [] for name in "peft_type base_model_name_or_path revision auto_mapping task_type peft_version".split()
}
DTYPES = "F64 F32 F16 BF16 F8_E4M3 F8_E5M2 F8_E8M0 F4 I64 I32 I16 I8 U64 U32 U16 U8 BOOL C64 F6_E2M3".split()
LAYER = "base_model.model.model.layers.1.mlp.down_proj.lora_A.weight"
HEADER = {LAYER: {"dtype": "F32", "shape": [4, 128], "data_offsets": [0, 2048]}, "__metadata__": {"format": "pt"}}
NAMES = st.sampled_from(
    [LAYER, LAYER.replace("_A", "_B"), LAYER.replace("lora_A.weight", "lora_magnitude_vector"), "lm_head.weight"]
    + [
        "base_model.model.model.embed_tokens.weight",
        "base_model.model.lm_head.modules_to_save.weight",
        "__metadata__",
        "",
    ]
)
SHAPES = st.lists(st.integers(0, 5) | st.sampled_from([64, 128]), max_size=3) | st.sampled_from([[4, 128], [64, 4]])
TENSORS = st.lists(st.tuples(NAMES, st.sampled_from(DTYPES), SHAPES), min_size=1, max_size=2)
CHANGES = st.one_of(
    st.tuples(st.just("config"), st.lists(st.one_of(edits_of_kinds(CONFIG_FIELDS)), min_size=1, max_size=3)),
    st.tuples(st.just("config bytes"), st.lists(DAMAGE, min_size=1, max_size=2)),
    st.tuples(st.just("tensors"), TENSORS),
    st.tuples(st.just("header"), edits_of(HEADER)),
    st.tuples(st.just("bytes"), st.lists(DAMAGE, min_size=1, max_size=2)),
)


def with_tensors(content: bytes, tensors: list[tuple[str, str, list[int]]]) -> bytes:
    """A safetensors file with more tensors, of zeros, or others in their place."""
    header, data = split_header(content)
    metadata = {"__metadata__": header.pop("__metadata__")}
    parts = {name: (of, data[slice(*of["data_offsets"])]) for name, of in header.items()}
    for name, dtype, shape in tensors:
        bits = int(re.search(r"\d+", dtype + "8")[0]) * math.prod(shape)
        parts[name] = {"dtype": dtype, "shape": shape}, bytes(bits // 8)
    header, data = {}, b""
    for name, (of, numbers) in parts.items():
        header[name] = of | {"data_offsets": [len(data), len(data) + len(numbers)]}
        data += numbers
    return with_header(metadata | header, data)


def split_header(content: bytes) -> tuple[dict, bytes]:
    length = struct.unpack("<Q", content[:8])[0]
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def with_header(header: object, data: bytes) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


@pytest.fixture(scope="module")
def base(tiny) -> PretrainedConfig:
    return load_config(DPOArguments.model_validate(tiny.dpo(tiny.folder / "run")))


def changed_weights(content: bytes, what: str, change: Any) -> bytes:
    if what == "tensors":
        return with_tensors(content, change)
    if what == "header":
        header, data = split_header(content)
        return with_header(edited(header, change), data)
    return damaged(content, change) if what == "bytes" else content


@pytest.mark.filterwarnings("ignore")
@fuzzed
@given(change=CHANGES)
def test_adapters(tiny, tmp_path, base, change):
    what, how = change
    config = Path(tiny.adapter, "adapter_config.json").read_bytes()
    if what == "config":
        config = json.dumps(edited(json.loads(config), how)).encode()
    elif what == "config bytes":
        config = damaged(config, how)
    weights = changed_weights(Path(tiny.adapter, "adapter_model.safetensors").read_bytes(), what, how)
    (tmp_path / "sft").mkdir(exist_ok=True)
    (tmp_path / "sft" / "adapter_config.json").write_bytes(config)
    (tmp_path / "sft" / "adapter_model.safetensors").write_bytes(weights)
    before = listing(tmp_path)
    try:
        adapter = AdapterFile.read(tmp_path / "sft")
        adapter.check_fits("adapter", base)
        assert adapter.replaces_base_embeddings in (True, False)
        assert adapter.layers and adapter.embedding_rows != 0
        adapter.check_finite("adapter")
    except InputError as error:
        assert all(message.startswith("adapter: ") for message in error.messages)
    assert listing(tmp_path) == before


PREDICTION = {
    "index": 0,
    "sample": 0,
    "model": "adapter",
    "prompt": "<|im_start|>user Hi .",
    "history": HISTORY,
    "target_emotion": "happiness",
    "gold_response": "You earned it !",
    "response": "So what ?",
    "new_tokens": 5,
    "hit_max_new_tokens": False,
    "gold_tokens": 6,
    "gold_logp": -12.5,
    "predicted_emotion": "anger",
    "emotion_score": 0.5,
    "target_probability": 0.25,
    "emotion_at_words": ["neutral", "anger"],
    "gibberish_label": "clean",
    "gibberish_score": 1,
    "ends_with_punctuation": True,
    "gold_emotion": "happiness",
    "gold_gibberish_label": "clean",
}
PREDICTIONS = [
    PREDICTION | {"index": index, "sample": sample, "model": model}
    for model in ("baseline", "adapter")
    for index in (0, 7)
    for sample in (0, 1)
]


SCORED_FIELDS = list_scored_fields(("emotion_model", "gibberish_model"))
ROW_FIELDS = {
    (line, name): [JSON_TYPE_OF_PYTHON_TYPE[kind]]
    for name, kind in (GENERATED_FIELDS | SCORED_FIELDS).items()
    for line in (0, 1)
}


@fuzzed
@given(
    edits=st.lists(st.one_of(edits_of_kinds(ROW_FIELDS)), max_size=2) | edits_of(PREDICTIONS[:2]),
    damages=st.just([]) | st.lists(DAMAGE, max_size=2),
    fields=st.sampled_from([GENERATED_FIELDS, GENERATED_FIELDS | SCORED_FIELDS]),
    named=st.sampled_from(["file", "folder"]),
)
def test_predictions(tmp_path, edits, damages, fields, named):
    file = tmp_path / "predictions.jsonl"
    rows = edited(PREDICTIONS, edits)
    file.write_bytes(damaged("".join(json.dumps(row) + "\n" for row in rows).encode(), damages))
    before = listing(tmp_path)
    try:
        found = read_predictions(tmp_path if named == "folder" else file, fields, EMOTION_LABELS)
        assert sum(map(len, group_by_model(found, EMOTION_LABELS).values())) == len(found)
    except InputError as error:
        assert all(message.startswith(str(file)) for message in error.messages)
    assert listing(tmp_path) == before
