"""Short names of run folders and adapters."""

from pathlib import Path

import pytest

from response_generator.runs.short_names import build_page_title, name_adapters, shorten_paths


@pytest.mark.parametrize(
    ("folders", "taken", "names"),
    [
        (["runs/demo/evaluate", "/x/other"], set(), ["evaluate", "other"]),
        (["runs/a/evaluate", "runs/b/evaluate", "runs/c"], set(), ["a/evaluate", "b/evaluate", "c"]),
        (["1/a/evaluate", "2/a/evaluate", "2/b/evaluate"], set(), ["1/a/evaluate", "2/a/evaluate", "b/evaluate"]),
        (["runs/dpo", "runs/sft"], {"dpo"}, ["runs/dpo", "sft"]),
        (["/evaluate", "/a/evaluate"], set(), ["/evaluate", "a/evaluate"]),
        ([".", "..", "a/../b"], set(), ["d", "c", "b"]),
    ],
)
def test_short_names_of_folders_have_as_many_parts_as_they_need(folders, taken, names, tmp_path, monkeypatch):
    (tmp_path / "c" / "d").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "c" / "d")
    folders = [Path(folder) for folder in folders]
    assert list(shorten_paths(folders, taken).values()) == names


@pytest.mark.parametrize(
    ("adapters", "names"),
    [
        (
            {"adapter": "runs/demo/dpo/adapter", "baseline": "assets/sft_adapter"},
            ["adapter dpo", "baseline sft_adapter"],
        ),
        ({"adapter": "runs/a/dpo/adapter", "baseline": "runs/b/dpo/adapter"}, ["adapter a/dpo", "baseline b/dpo"]),
        ({"adapter": "owner/an-adapter", "baseline": "none"}, ["adapter an-adapter", "baseline bare base model"]),
        ({"adapter": "/x/dpo/adapter", "baseline": "/x/dpo/adapter"}, ["adapter dpo", "baseline dpo"]),
        ({}, []),
    ],
)
def test_an_adapter_is_named_by_its_run_folder_or_its_own_folder(adapters, names):
    assert name_adapters(adapters) == names


def test_a_title_names_the_run_by_the_last_two_parts_of_its_path():
    folder = Path("/somewhere/runs/demo/evaluate")
    assert build_page_title("DPO", folder) == "DPO: demo/evaluate"
    title = build_page_title("Evaluation", folder, ["adapter dpo", "baseline sft"])
    assert title == "Evaluation: demo/evaluate (adapter dpo, baseline sft)"
