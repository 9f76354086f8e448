"""Links, paths, keys and names in the documents must exist."""

import ast
import json
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import ROOT, read_json, read_lines
from documents import BLOCKS, DOCUMENTS, TEXTS, list_inline_code, list_make_targets
from jinja2 import Template
from tiny_models import DEMO_DATA

from response_generator.config.library import library_keywords
from response_generator.config.programs import PROGRAMS
from response_generator.config.section import Section
from response_generator.config.validation import KEYWORD_SECTIONS, get_section_class
from response_generator.evaluation.comparison import estimate_preference
from response_generator.evaluation.metrics import METRICS
from response_generator.evaluation.predictions_file import GENERATED_FIELDS
from response_generator.evaluation.scores import SCORES, list_scored_fields

MAX_README_LINES = 70
PARTS_OF_THE_INDEX = ["Start", "Do", "Understand", "Reference", "Develop"]
CARD_SECTIONS = ["Intended use", "Data", "Result", "Limits", "License"]
CHECKED_PATHS = ("args/", "docs/", "notebooks/", "response_generator/", "tests/", "requirements")


def list_keys(arguments: type[Section]) -> set[str]:
    """Every key of a section as `section.key`, those of the libraries included."""
    keys = set()
    for name, field in arguments.model_fields.items():
        if section := get_section_class(field):
            keys |= {f"{name}.{key}" for key in section.model_fields}
    for section in KEYWORD_SECTIONS:
        keys |= {f"{section}.{key}" for key in library_keywords.accepted_json_types(section)}
    return keys


# Named in the documents as what is not a key.
NO_KEYS = {
    "calibration.json",
    "dpo.output_dir",
    "generation.eos_token_id",
    "preferences.jsonl",
    "samples.jsonl",
}


@pytest.mark.parametrize("file", DOCUMENTS, ids=lambda file: file.name)
def test_every_key_in_the_text_exists(file):
    known = set().union(*(list_keys(program.arguments) for program in PROGRAMS))
    sections = {key.partition(".")[0] for key in known}
    for code in list_inline_code(file):
        key = re.match(r"\w+\.\w+", code)
        if key and key[0].partition(".")[0] in sections:
            assert key[0] in known | NO_KEYS, f"{file.name}: {code}"


def to_anchor(heading: str) -> str:
    """The id that GitHub gives to a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("file", DOCUMENTS, ids=lambda file: file.name)
def test_every_link_leads_somewhere(file):
    for target in re.findall(r"\]\(([^)]+)\)", TEXTS[file]):
        if target.startswith("http"):
            continue
        path, _, anchor = target.partition("#")
        linked = (file.parent / path).resolve() if path else file
        assert linked.exists(), f"{file.name}: {target}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", TEXTS[linked], re.MULTILINE)
            assert anchor in map(to_anchor, headings), f"{file.name}: {target}"


@pytest.mark.parametrize("file", DOCUMENTS, ids=lambda file: file.name)
def test_every_path_in_the_text_exists(file):
    named = {
        code for code in list_inline_code(file) if code.startswith(CHECKED_PATHS) and re.fullmatch(r"[\w./-]+", code)
    }
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("file", DOCUMENTS, ids=lambda file: file.name)
def test_every_make_target_in_the_text_exists(file):
    targets = {match[1] for code in list_inline_code(file) if (match := re.fullmatch(r"make (\S+)", code))}
    assert targets <= list_make_targets()


def test_every_test_that_a_document_names_exists():
    named = {name for text in TEXTS.values() for name in re.findall(r"test_\w+\.py", text)}
    assert len(named) > 10
    assert named <= {file.name for file in (ROOT / "tests").rglob("test_*.py")}


@pytest.mark.parametrize("name", ["README.md", "README.zh-TW.md"])
def test_the_readme_is_short(name):
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    assert len(lines) <= MAX_README_LINES
    assert all(len(line) <= 120 for line in lines if not line.startswith(("|", "!")))


def test_the_index_links_every_document_once_in_one_of_five_parts():
    index = ROOT / "docs" / "README.md"
    assert re.findall("^## (.+)$", TEXTS[index], re.MULTILINE) == PARTS_OF_THE_INDEX
    linked = [(index.parent / path).resolve() for path in re.findall(r"\]\(([^)#]+)\)", TEXTS[index])]
    assert len(linked) == len(set(linked))
    assert {*DOCUMENTS, ROOT / "args" / "README.md", ROOT / "NOTICE"} - {index} <= set(linked)
    assert "(docs/README.md)" in TEXTS[ROOT / "README.md"]


def test_the_figures_of_the_readme_are_among_the_results():
    section = TEXTS[ROOT / "README.md"].partition("\n## Result, with its price\n")[2].partition("\n## ")[0]
    figures = set(re.findall(r"\d+\.\d+", section))
    assert len(figures) > 30
    assert figures <= set(re.findall(r"\d+\.\d+", TEXTS[ROOT / "docs" / "results.md"]))


def test_the_tutorial_follows_a_dialogue_of_the_demo():
    """Its row, the prompt that the chat template makes of it, and the pair that was built from it."""
    page = ROOT / "docs" / "tutorial.md"
    (block,) = (block for block in BLOCKS if block.file == page and block.language == "jsonl")
    *history, gold = json.loads(block.text)["prompt"]
    place = read_lines(DEMO_DATA / "dialogues_train.jsonl").index(json.loads(block.text))
    template = Template(
        (ROOT / "response_generator" / "data" / "templates" / "chatml_emotion.jinja").read_text("utf-8")
    )
    target = gold["content"]["emotion"]
    prompt = template.render(messages=history, add_generation_prompt=True, target_emotion=target)
    assert f"```text\n{prompt}```" in TEXTS[page]
    (pair,) = (pair for pair in read_lines(DEMO_DATA / "preferences_train.jsonl") if pair["index"] == place)
    for side in ("chosen", "rejected"):
        reply, label = pair[side][0]["content"]["dialog"], pair[f"{side}_emotion"]
        share, score = 100 * pair[f"{side}_emotion_score"], pair[f"{side}_score"]
        assert f"| {side} | {reply} | {label}, {share:.0f} % | {score:.2f} |" in TEXTS[page]


def test_the_index_of_args_files_has_each_of_them_under_its_program():
    folder = ROOT / "args"
    expected = {
        (str(file.relative_to(folder)), Path(read_json(file)["$schema"]).stem)
        for file in folder.rglob("*.json")
        if file.parent.name != "schemas"
    }
    listed = []
    for section in (folder / "README.md").read_text(encoding="utf-8").split("\n## ")[1:]:
        names = re.findall(r"^\| \[(\S+)\]\((\S+)\) \| .+ \|$", section, re.MULTILINE)
        program = next((each for each in PROGRAMS if each.schema_name and f"`{each.name}`" in section), None)
        listed += [(name, program.schema_name if program else "model") for name, target in names if name == target]
    assert len(listed) == len(expected) and set(listed) == expected


def test_the_layout_names_every_folder_of_the_package():
    layout = next(block.text for block in BLOCKS if block.language == "text" and block.file.name == "CONTRIBUTING.md")
    folders = {file.parent.name for file in (ROOT / "response_generator").glob("*/__init__.py")}
    assert set(re.findall(r"^  (\w+)/ ", layout, re.MULTILINE)) == folders
    assert all((ROOT / path).exists() for path in re.findall(r"^\S+", layout, re.MULTILINE))


def test_the_citation_has_what_its_format_requires():
    """Citation File Format 1.2.0: https://github.com/citation-file-format/citation-file-format"""
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert (citation["version"], citation["license"]) == (project["version"], project["license"])
    assert citation["authors"] == project["authors"]
    notice = (ROOT / "NOTICE").read_text(encoding="utf-8")
    (original,) = (reference["url"] for reference in citation["references"] if reference["type"] == "software")
    assert original in notice and original in TEXTS[ROOT / "README.md"]
    for reference in citation["references"]:
        assert {"type", "title", "authors", "year", "url"} <= reference.keys()
        assert all(author.keys() == {"family-names", "given-names"} for author in reference["authors"])


def test_the_models_of_this_repository_have_cards():
    """With their data, license, limits and intended use; a number of the classifiers is that of their quality.json."""
    folders = [file.parent for file in (ROOT / "response_generator" / "demo").glob("*/adapter_config.json")]
    assert len(folders) == 3
    for folder in folders:
        card = (folder / "README.md").read_text(encoding="utf-8")
        _, head, text = card.split("---\n", 2)
        assert yaml.safe_load(head)["license"] == "apache-2.0"
        assert re.findall(r"^- \*\*(.+?)\*\*", text, re.MULTILINE) == CARD_SECTIONS
        if (folder / "quality.json").exists():
            (quality,) = read_json(folder / "quality.json")["data_sets"].values()
            accuracy = [f"{100 * value:.1f}" for value in quality["accuracy"]]
            assert "{} % [{}, {}]".format(*accuracy) in text


def test_the_pages_of_the_evaluation_define_every_metric_and_field():
    page = TEXTS[ROOT / "docs" / "metrics.md"] + TEXTS[ROOT / "docs" / "files.md"]
    scored = list_scored_fields({score.scorer for score in SCORES.values()})
    for name in (*(metric.name for metric in METRICS), *GENERATED_FIELDS, *scored):
        assert f"`{name}`" in page, name
    for name in estimate_preference(np.array([1.0, -1.0, 2.0]), resamples=100, seed=0):
        assert f"`preference/{name}`" in page, name


def test_the_training_page_defines_every_metric():
    """The metrics that the two functions below return are keys of dicts in their source."""
    page = TEXTS[ROOT / "docs" / "training.md"]
    names = set()
    for file, function in (
        ("dpo_checks.py", "check_start"),
        ("run_training.py", "train"),
    ):
        tree = ast.parse((ROOT / "response_generator" / "training" / file).read_text(encoding="utf-8"))
        body = next(node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == function)
        dicts = [node for node in ast.walk(body) if isinstance(node, ast.Dict)]
        names |= {key.value for node in dicts for key in node.keys if isinstance(key, ast.Constant)}
    assert len(names) >= 7
    for name in names:
        assert f"`{name}`" in page, name
