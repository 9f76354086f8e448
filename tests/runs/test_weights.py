"""Identities of weights, and the args of runs whose folder or models have moved."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import xxhash
from safetensors.numpy import save_file

from response_generator.errors import InputError
from response_generator.runs import weights
from response_generator.runs.earlier_start import follow_move
from response_generator.runs.run_folder import RunFolder

OLD, NEW = "1" * 40, "2" * 40


def write_adapter(folder: Path, value: float = 1.0) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    save_file({"a.lora_A.weight": np.full(4, value, np.float32)}, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA"}', encoding="utf-8")
    return str(folder)


def test_the_digest_is_of_the_whole_content_and_of_what_is_loaded_alone(tmp_path):
    name = write_adapter(tmp_path / "adapter")
    files = {file.name: file.read_bytes() for file in Path(name).iterdir()}
    expected = {file: f"xxh3-128:{xxhash.xxh3_128(content).hexdigest()}" for file, content in files.items()}
    (tmp_path / "adapter" / "README.md").write_text("a model card", encoding="utf-8")
    os.utime(tmp_path / "adapter" / "adapter_config.json", (0, 0))  # a copy may have another time
    assert weights.identify(name, downloaded=False) == expected
    write_adapter(tmp_path / "adapter", value=2.0)
    assert weights.identify(name, downloaded=False).keys() == expected.keys()
    assert weights.identify(name, downloaded=False) != expected


def test_all_shards_of_a_model_count(tmp_path):
    names = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    for number, name in enumerate(names):
        save_file({f"w{number}": np.ones(2, np.float32)}, tmp_path / name)
    index = {"weight_map": {f"w{number}": name for number, name in enumerate(names)}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    found = weights.identify(str(tmp_path), downloaded=False)
    assert set(found) == {*names, "model.safetensors.index.json", "config.json"}


def test_a_hub_repository_is_its_commit(tmp_path, monkeypatch):
    assert weights.identify(f"owner/adapter@{OLD}", downloaded=False) == {"commit": OLD}
    cache = tmp_path / "models--owner--adapter"
    (cache / "snapshots" / NEW).mkdir(parents=True)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text(NEW, encoding="utf-8")
    (cache / "snapshots" / NEW / "adapter_config.json").write_text("{}", encoding="utf-8")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert weights.identify("owner/adapter", downloaded=False) == {}  # the cache may be older than the branch
    assert weights.identify("owner/adapter", downloaded=True) == {"commit": NEW}
    run = RunFolder(tmp_path / "run", {"adapter": "owner/adapter"}, sources={"adapter": "owner/adapter"})
    run.path.mkdir()
    run.write_json("args.json", run.arguments)
    run.write_json("environment.json", {"weights": {"adapter": {"commit": OLD}}})
    (run.path / "log.jsonl").write_text("{}\n", encoding="utf-8")
    assert run.find_errors() == run.find_weight_errors() == []
    with pytest.raises(InputError) as refused:
        run.start()
    pinned = f"owner/adapter@{OLD}"
    assert str(refused.value) == (
        f"adapter: owner/adapter: is now commit {NEW}, but this run began with {OLD}; write {pinned}, or name another "
        f"output_dir"
    )
    followed = RunFolder(run.path, {"adapter": pinned}, sources={"adapter": pinned})  # the advice is followed
    assert followed.find_errors() == []
    followed.start()


def test_without_results_a_run_begins_anew_with_other_weights(tmp_path, capsys):
    name = write_adapter(tmp_path / "adapter")
    run = RunFolder(tmp_path / "run", {"adapter": name}, sources={"adapter": name})
    run.start()
    first = run.read_environment()["weights"]
    run.note_environment({"max_batch_tokens": 5})
    write_adapter(tmp_path / "adapter", value=2.0)
    assert run.find_errors() == run.find_weight_errors() == []
    run.start()
    second = run.read_environment()
    assert second["weights"] != first and "max_batch_tokens" not in second  # it was measured with the other ones
    assert len(second["starts"]) == 2
    (run.path / "log.jsonl").write_text("{}\n", encoding="utf-8")
    write_adapter(tmp_path / "adapter", value=1.0)
    with pytest.raises(InputError, match="adapter_model.safetensors changed since this run began; put back what was"):
        run.start()
    assert run.read_environment() == second
    assert capsys.readouterr().out == ""


MOVES = {
    "the folder of one run": ("/p/runs/a", "/p/runs/b", {"adapter": "/p/sft"}, {"adapter": "/p/sft"}),
    "a folder of several": (
        "/p/runs/a/evaluate",
        "/p/runs/b/evaluate",
        {"adapter": "/p/runs/a/dpo/adapter", "base_model": "owner/base"},
        {"adapter": "/p/runs/b/dpo/adapter", "base_model": "owner/base"},
    ),
    "a whole project": (
        "/home/u/p/runs/a",
        "/data/p/runs/a",
        {"dataset": {"path": "/home/u/p/rows.jsonl"}, "scoring": {"emotion_model": "/models/e"}},
        {"dataset": {"path": "/data/p/rows.jsonl"}, "scoring": {"emotion_model": "/models/e"}},
    ),
    "with data sets in a list": (
        "/home/u/p/runs/a",
        "/data/p/runs/a",
        {"datasets": [{"path": "/home/u/p/rows.jsonl"}, {"path": "owner/texts"}]},
        {"datasets": [{"path": "/data/p/rows.jsonl"}, {"path": "owner/texts"}]},
    ),
}


@pytest.mark.parametrize("case", MOVES)
def test_the_paths_of_a_moved_run_are_followed(case):
    before, after, earlier, now = MOVES[case]
    now = {"output_dir": after, "seed": 1} | now
    assert follow_move({"output_dir": before, "seed": 1} | earlier, now) == now


def test_another_adapter_is_no_moved_one():
    earlier = {"output_dir": "/p/runs/a/evaluate", "adapter": "/p/runs/a/dpo/adapter", "seed": 1, "limit": "/p/runs/a"}
    now = {"output_dir": "/p/runs/b/evaluate", "adapter": "/p/runs/b/sft/adapter", "seed": 2, "limit": None}
    assert follow_move(earlier, now) == earlier | {"output_dir": "/p/runs/b/evaluate"}
    assert follow_move({"compare": ["/p/a"]}, {"compare": ["/p/b"]}) == {"compare": ["/p/a"]}  # it has no output_dir
