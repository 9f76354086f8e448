"""The sheet of a blind test: what is drawn, what the page tells and what it does not, and what is refused."""

import json
import re
import subprocess
import sys
from collections import Counter

import pytest
from conftest import ROOT, read_json
from made_blind_tests import FIRST, SECOND, compare_rows, made_rows, run_blind_test, to_plain_rows, write_run
from tiny_models import EMOTION_LABELS

from response_generator.blind_test.compared_replies import read_replies
from response_generator.blind_test.sheet import draw_sheet
from response_generator.errors import InputError
from response_generator.labels import Labels

PLAIN = {"labels": [], "scoring": {}}


@pytest.fixture
def run(tmp_path):
    return write_run(tmp_path / "run", made_rows())


def read_page(folder) -> tuple[str, dict]:
    """The page, and the rows that it shows."""
    text = (folder / "blind_test.html").read_text(encoding="utf-8")
    return text, json.loads(re.search(r'id="sheet">(.*?)</script>', text, re.DOTALL)[1])


def test_each_target_is_as_frequent_as_there_are_prompts():
    rare = ["anger"] * 2 + ["fear"] * 5
    targets = ["neutral"] * 60 + rare + ["sadness"] * 30
    sheet = draw_sheet(compare_rows(made_rows(97, targets=targets)), 31, seed=1)
    assert sheet.count_targets() == {"anger": 2, "fear": 5, "neutral": 12, "sadness": 12}
    drawn = [pair.place[0] for pair in sheet.pairs]
    assert len(set(drawn)) == 31 and drawn != sorted(drawn)
    # Were it sorted by target, or in turns of the targets, it would be one of these two.
    order = [pair.place[1] for pair in sheet.pairs]
    changes = sum(one != other for one, other in zip(order, order[1:], strict=False))
    assert 3 < changes < 30


def test_other_prompts_and_sides_are_drawn_with_another_seed():
    replies = compare_rows(made_rows(70))
    first, same, other = (draw_sheet(replies, 20, seed) for seed in (1, 1, 2))
    assert first.id == same.id and first.to_key() == same.to_key()
    assert {pair.place for pair in first.pairs} != {pair.place for pair in other.pairs}
    one_prompt = compare_rows(made_rows(1))
    assert len({draw_sheet(one_prompt, 1, seed).id for seed in range(5)}) == 5


def test_each_model_is_reply_a_in_half_of_the_pairs():
    sheet = draw_sheet(compare_rows(made_rows(70)), 41, seed=1)
    sides = [pair.models for pair in sheet.pairs]
    assert sorted(Counter(sides).values()) == [20, 21] and set(sides) == {(FIRST, SECOND), (SECOND, FIRST)}
    assert sides not in ([sides[0], sides[1]] * 20 + [sides[0]], sorted(sides))
    for pair, shown in zip(sheet.pairs, sheet.list_shown_pairs(), strict=True):
        assert [reply.split()[0] for reply in shown["replies"]] == [
            {FIRST: "One", SECOND: "Two"}[model] for model in pair.models
        ]


def test_identical_replies_are_no_pairs(tmp_path, monkeypatch, capsys):
    rows = made_rows()
    for each in rows:
        if each["index"] < 3:
            each["response"] = "The same ." if each["model"] == FIRST else "The  same .\n"
    run = write_run(tmp_path / "run", rows)
    assert run_blind_test(monkeypatch, run) == 0
    printed = capsys.readouterr().out
    assert "18 pairs of baseline and adapter, from 21 prompts" in printed
    assert "3 prompts are left out: both models reply the same to them" in printed
    assert "--pairs 50: there are only 18" in printed
    indices = [pair["index"] for pair in read_json(run / "blind_test" / "key.json")["pairs"]]
    assert sorted(indices) == list(range(3, 21))


def test_one_sample_of_a_prompt_is_drawn_at_random():
    sheet = draw_sheet(compare_rows(made_rows(60, samples=3)), 60, seed=1)
    assert len({pair.place[0] for pair in sheet.pairs}) == 60
    counts = Counter(pair.place[2] for pair in sheet.pairs)
    assert set(counts) == {0, 1, 2} and max(counts.values()) < 35
    for pair, shown in zip(sheet.pairs, sheet.list_shown_pairs(), strict=True):
        assert all(reply.endswith(f"says {pair.place[0]} , {pair.place[2]} .") for reply in shown["replies"])


def test_a_dialogue_with_two_targets_is_two_prompts():
    rows = made_rows(7) + [each | {"target_emotion": "joy", "response": f"{each['model']} !"} for each in made_rows(7)]
    sheet = draw_sheet(compare_rows(rows), 50, seed=1)
    assert sheet.count_targets()["joy"] == 7 and len(sheet.pairs) == 14
    for pair, shown in zip(sheet.pairs, sheet.list_shown_pairs(), strict=True):
        assert all(reply.endswith("!") for reply in shown["replies"]) == (pair.place[1] == "joy")


def test_the_page_tells_neither_models_nor_targets(run, monkeypatch):
    assert run_blind_test(monkeypatch, run, "--pairs", "5") == 0
    text, content = read_page(run / "blind_test")
    without_scripts = re.sub(r"<script>.*?</script>|<style>.*?</style>", "", text, flags=re.DOTALL)
    assert "Dialogue" in without_scripts
    assert not re.search(rf"{FIRST}|{SECOND}|target|predicted|gold|{re.escape(str(run))}|seed", without_scripts)
    key = read_json(run / "blind_test" / "key.json")
    assert content["id"] == key["sheet"]
    assert content.keys() == {"id", "questions", "pairs"}
    assert [question["options"] for question in content["questions"]] == [
        *[[*EMOTION_LABELS.names, "cannot tell"]] * 2,
        ["A", "B", "equally good", "cannot tell"],
    ]
    for shown, hidden in zip(content["pairs"], key["pairs"], strict=True):
        index = hidden["index"]
        words = {FIRST: "One", SECOND: "Two"}
        assert shown == {
            "turns": [["user", f"Dialogue {index} ."]],
            "replies": [f"{words[hidden[side]]} says {index} , 0 ." for side in "AB"],
        }


def test_the_same_command_writes_the_same_sheet_and_another_one_is_refused(run, monkeypatch, capsys):
    folder = run / "blind_test"
    assert run_blind_test(monkeypatch, run) == 0
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    assert before.keys() == {"blind_test.html", "key.json"}
    assert run_blind_test(monkeypatch, run) == 0
    assert run_blind_test(monkeypatch, run, "--seed", "7") == 2
    assert "name another folder with --output_dir" in capsys.readouterr().err
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    assert run_blind_test(monkeypatch, run, "--seed", "7", "--output_dir", run / "other") == 0
    assert read_json(run / "other" / "key.json")["sheet"] != read_json(folder / "key.json")["sheet"]


def test_without_labels_only_the_preference_is_asked(tmp_path, monkeypatch):
    run = write_run(tmp_path / "run", to_plain_rows(made_rows()), **PLAIN)
    assert run_blind_test(monkeypatch, run) == 0
    text, content = read_page(run / "blind_test")
    assert [question["name"] for question in content["questions"]] == ["preference"]
    assert content["pairs"][0]["turns"] == [["user", "Is it raining ?"]]
    assert "For each reply, say which" not in text


def test_own_labels_are_asked_for(tmp_path, monkeypatch):
    labels = ["polite", "rude"]
    rows = [each | {"gold_emotion": "polite"} for each in made_rows(targets=labels)]
    for each in rows:
        each["history"] = [{"role": "user", "content": {"emotion": "rude", "dialog": "</script> & <b>"}}]
    run = write_run(tmp_path / "run", rows, labels=labels, neutral_label=None)
    assert run_blind_test(monkeypatch, run) == 0
    text, content = read_page(run / "blind_test")
    assert content["questions"][0]["title"] == "Reply A: which label is it?"
    assert content["questions"][0]["options"] == ["polite", "rude", "cannot tell"]
    assert content["pairs"][0]["turns"] == [["user", "</script> & <b>"]]


def test_the_adapters_of_two_runs_are_compared(tmp_path, monkeypatch):
    rows = [each for each in made_rows() if each["model"] == SECOND]
    runs = [
        write_run(tmp_path / name, [each | {"response": f"{name} {each['index']}"} for each in rows])
        for name in ("sft", "dpo")
    ]
    assert run_blind_test(monkeypatch, *runs, "--models", "dpo", "sft") == 0
    key = read_json(tmp_path / "sft" / "blind_test" / "key.json")
    assert key["models"] == ["dpo", "sft"]
    _, content = read_page(tmp_path / "sft" / "blind_test")
    for shown, pair in zip(content["pairs"], key["pairs"], strict=True):
        assert shown["replies"] == [f"{pair[side]} {pair['index']}" for side in "AB"]


def remove_metrics(run):
    (run / "metrics.json").unlink()


def keep_one_model(run):
    lines = (run / "predictions.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (run / "predictions.jsonl").write_text("".join(line for line in lines if SECOND in line), encoding="utf-8")


REFUSED = {
    "an unfinished run": (remove_metrics, [], "is not finished (no metrics.json); run it to its end first"),
    "one model": (keep_one_model, [], "holds replies of adapter alone; needed: two models; name two runs"),
    "no such model": (None, ["--models", "adapter", "sft"], "--models: got adapter, sft; "),
    "one model twice": (None, ["--models", "adapter", "adapter"], "holds replies of baseline, adapter; needed: two"),
    "no run": (None, ["/nowhere"], "/nowhere: no run folder (no args.json)"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_tested_is_refused(case, run, monkeypatch, capsys):
    change, options, words = REFUSED[case]
    if change:
        change(run)
    assert run_blind_test(monkeypatch, run, *options) == 2
    printed = capsys.readouterr().err
    assert words in printed and "--compare" not in printed
    assert not (run / "blind_test").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--pairs", "0"], "--pairs 0: allowed: numbers from 1"),
        (["--seed", "-1"], "--seed -1: allowed: numbers from 0"),
        (["--seed", "1", "--score", "answers.json"], "--pairs, --models and --seed are those of the sheet"),
    ],
)
def test_options_are_checked(options, words, run, monkeypatch, capsys):
    with pytest.raises(SystemExit, match="2"):
        run_blind_test(monkeypatch, run, *options)
    assert words in capsys.readouterr().err


def test_replies_that_are_all_identical_are_refused():
    rows = [each | {"response": "Yes ."} for each in made_rows()]
    with pytest.raises(InputError, match="are all identical"):
        draw_sheet(compare_rows(rows), 5, seed=1)


def test_a_label_called_like_an_answer_is_refused():
    with pytest.raises(InputError, match="'cannot tell' is the answer of a rater"):
        draw_sheet(compare_rows(made_rows(), Labels(("cannot tell", "anger"), None)), 5, seed=1)


def test_the_first_two_models_are_compared_unless_others_are_named(tmp_path):
    third = [each | {"model": "third", "response": "Three ."} for each in made_rows() if each["model"] == FIRST]
    run = write_run(tmp_path / "run", made_rows() + third)
    assert read_replies([run]).models == [FIRST, SECOND]
    assert read_replies([run], ["third", FIRST]).models == ["third", FIRST]


@pytest.mark.slow
def test_it_starts_without_torch_and_scikit_learn():
    code = (
        "import sys, response_generator.blind_test.__main__; print({'torch', 'sklearn', 'matplotlib'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
