"""notebooks/free_gpu.ipynb: its cells in order, on tiny models and a processor."""

import io
import json
import os
import sys
from argparse import Namespace
from pathlib import Path
from types import ModuleType

import pytest
from conftest import ROOT, read_json, write_rows
from script_process import ScriptProcess
from tiny_assets import link_repository, write_tiny_assets
from tiny_models import demo_rows

from response_generator.cli import command_line
from response_generator.config.preference_schema import PreferenceDataArguments
from response_generator.config.schema import EvaluateArguments
from response_generator.config.training_schema import ClassifierArguments, DPOArguments, SFTArguments

NOTEBOOK = read_json(ROOT / "notebooks" / "free_gpu.ipynb")
CODE = [cell for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]
PROGRAMS = {
    "-m response_generator.classifier": ClassifierArguments,
    "-m response_generator.sft": SFTArguments,
    "-m response_generator.preferences": PreferenceDataArguments,
    "fine_tune_dpo.py": DPOArguments,
    "evaluate.py": EvaluateArguments,
}
DISPLAYS = ("HTML", "Image", "Markdown")


class ForkedProcess:
    """The part of subprocess.Popen that the notebook uses, for a program of this repository: a real process, but one
    that need not import torch again."""

    def __init__(self, command, env, **kwargs):
        python, program, *options = command
        assert python == sys.executable
        if program == "-m":
            program = options.pop(0).replace(".", "/")
            program += "/__main__.py" if (ROOT / program).is_dir() else ".py"
        self.process = ScriptProcess(program, options, ".", env)

    def __enter__(self):
        self.returncode = self.process.wait()
        self.stdout = io.StringIO(self.process.read_stdout() + self.process.read_stderr())
        return self

    def __exit__(self, *error):
        return None


@pytest.fixture
def shown(monkeypatch) -> list[tuple[str, str]]:
    """What the cells display, as `(class, argument)`; IPython itself is not installed here."""
    shown = []
    module = ModuleType("IPython.display")
    for name in DISPLAYS:
        setattr(module, name, lambda content, name=name: (name, content))
    module.display = shown.append
    monkeypatch.setitem(sys.modules, "IPython", ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    return shown


def tags_of(cell: dict) -> list[str]:
    return cell["metadata"].get("tags", [])


def test_the_cells_lead_to_a_report(tmp_path, monkeypatch, shown, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("subprocess.Popen", ForkedProcess)
    link_repository(tmp_path)
    write_tiny_assets(tmp_path / "assets")
    for split in ("train", "validation", "test"):
        write_rows(tmp_path / f"{split}.jsonl", demo_rows(f"dialogues_{split}", 18))
    settings = {
        "folder": str(tmp_path),
        "python": sys.executable,
        "base_model": "assets/base_model",
        "dtype": "float32",
        "dialogues": str(tmp_path),
        "train_dialogues": 12,  # two steps in an epoch: the learning rate of the first one is 0
        "pair_prompts": 4,
        "test_dialogues": 12,
        "max_new_tokens": 8,
        "encoder": "assets/encoder",
        "emotion_classifier": "assets/emotion_classifier",
        "emotion_labels": None,
        "gibberish_classifier": "assets/gibberish_classifier",
        "other_pair_settings": {"filters": {}, "generation.max_new_tokens": 8, "max_attempts": 1},
    }
    variables = {}
    for cell in CODE:
        if "install" not in tags_of(cell):
            exec(compile("".join(cell["source"]), f"cell {cell['id']}", "exec"), variables)
        if "parameters" in tags_of(cell):
            assert settings.keys() < variables.keys()
            variables |= settings
    runs = tmp_path / "runs" / "free_gpu"
    assert read_json(runs / "dpo" / "args.json")["adapter"] == str(runs / "sft" / "adapter")
    assert read_json(runs / "preferences" / "args.json")["dataset"]["offset"] == settings["train_dialogues"]
    assert read_json(runs / "evaluate" / "metrics.json")["prompts"] == 12
    assert [name for name, _ in shown] == ["Image", "Image", "Image", "Markdown", "HTML"]
    assert all((tmp_path / file).is_file() for name, file in shown if name == "Image")
    assert "&lt;!doctype html&gt;" in shown[-1][1]
    assert capsys.readouterr().out.count("after DPO:") == 3


def test_a_failed_program_ends_its_cell(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("subprocess.Popen", ForkedProcess)
    variables = {"python": sys.executable, "os": os, "base_model": "x", "dtype": "float32"}
    (cell,) = (cell for cell in CODE if cell["id"] == "run")
    exec("".join(cell["source"]), variables)
    with pytest.raises(RuntimeError, match="fine_tune_dpo.py ended with status 2"):
        variables["run"]("fine_tune_dpo.py", "absent.json", {})
    assert "absent.json" in capsys.readouterr().out


def test_the_first_code_cell_has_all_settings_and_nothing_was_run():
    assert tags_of(CODE[0]) == ["parameters"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in CODE)
    assert (NOTEBOOK["nbformat"], NOTEBOOK["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in NOTEBOOK["cells"]}) == len(NOTEBOOK["cells"])


def test_the_notebook_installs_what_make_installs():
    (cell,) = (cell for cell in CODE if "install" in tags_of(cell))
    source = "".join(cell["source"])
    assert '"-r", "requirements.txt"]' in source
    assert '"--no-deps", "-r", "requirements-no-deps.txt"]' in source


def test_its_own_values_are_those_of_a_gpu_without_bfloat16(tmp_path, monkeypatch, shown):
    """With the settings as they stand, args files and changes are accepted; no model is loaded."""
    monkeypatch.chdir(ROOT)
    arguments = {}

    def read(program: str, args_file: str, changes: dict) -> None:
        options = [f"{key}={json.dumps(value)}" for key, value in changes.items()]
        parsed = Namespace(json_file=Path(args_file), set=options, verbose=False)
        arguments[program] = command_line.read_arguments(PROGRAMS[program], parsed)

    variables = {"os": os}
    for cell in CODE:
        if cell["id"] in ("settings", "run", "classifier", "sft", "pairs", "dpo", "evaluate"):
            source = "".join(cell["source"]).partition("with open(")[0]  # what is shown does not exist
            exec(source, variables)
        if cell["id"] == "run":
            variables["run"] = read
    assert arguments.keys() == PROGRAMS.keys()
    for program, section in (("-m response_generator.sft", "sft"), ("fine_tune_dpo.py", "dpo")):
        settings = arguments[program].trl_settings
        assert arguments[program].section == section
        assert (settings["fp16"], settings["bf16"]) == (True, False)
    loading = [values.from_pretrained["dtype"] for values in arguments.values() if hasattr(values, "from_pretrained")]
    assert loading == ["float16"] * 4
    pairs, evaluation = arguments["-m response_generator.preferences"], arguments["evaluate.py"]
    assert pairs.scoring.emotion_model != evaluation.scoring.emotion_model
