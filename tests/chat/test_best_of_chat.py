"""A chat in which each reply is the best of several."""

import io

import pytest
import torch
from conftest import read_lines
from stub_writer import StubWriter, ignore, start_dialogue
from test_reply_writer import HISTORY, load_writer
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from response_generator.chat.commands import run_line
from response_generator.chat.page_messages import describe_dialogue
from response_generator.chat.reply import Choice, Reply, ReplyStopped
from response_generator.chat.reply_writer import ReplyWriter
from response_generator.chat.terminal import TerminalView
from response_generator.config.chat_schema import ChatArguments
from response_generator.config.validation import validate_arguments
from response_generator.errors import InputError
from response_generator.generation import method
from response_generator.runs.terminal import PlainConsole

SAMPLES = 4


@pytest.fixture(scope="module")
def best_of(tiny) -> dict:
    return {"samples": SAMPLES, "scoring": {"emotion_model": str(tiny.folder / "choosing")}}


@pytest.fixture(scope="module")
def writer(tiny, best_of) -> ReplyWriter:
    return load_writer(tiny, best_of=best_of)


def watch_candidates(writer, monkeypatch) -> list[list[str]]:
    """The texts of the candidates of every reply that is written from now on."""
    seen, score = [], writer.model.best_of.scorer.score

    def watch(texts, targets):
        seen.append(list(texts))
        return score(texts, targets)

    monkeypatch.setattr(writer.model.best_of.scorer, "score", watch)
    return seen


def find_probabilities(classifier: str, texts: list[str], label: str) -> list[float]:
    model, tokenizer = (
        each.from_pretrained(classifier) for each in (AutoModelForSequenceClassification, AutoTokenizer)
    )
    with torch.no_grad():
        logits = [model(**tokenizer(text, return_tensors="pt")).logits[0] for text in texts]
    return [each.softmax(-1)[model.config.label2id[label]].item() for each in logits]


@pytest.mark.parametrize("name", ["SFT", "DPO", "base"])
def test_the_reply_is_the_candidate_with_the_most_probable_target(name, writer, tiny, monkeypatch):
    seen = watch_candidates(writer, monkeypatch)
    places = set()
    for seed in range(4):
        reply = writer.write(HISTORY, "anger", name, seed, ignore)
        texts = seen[-1]
        found = find_probabilities(str(tiny.folder / "choosing"), texts, "anger")
        places.add(found.index(max(found)))
        assert len(set(texts)) == SAMPLES
        assert reply.response == texts[found.index(max(found))]
        assert reply.choice.score == pytest.approx(max(found), abs=1e-5)
        assert reply.labels.predicted_emotion is not None  # by the other classifier
    assert len(places) > 1


def test_the_same_seed_gives_the_same_candidates_and_the_next_one_others(writer, monkeypatch):
    seen = watch_candidates(writer, monkeypatch)
    replies = [writer.write(HISTORY, "anger", "SFT", seed, ignore) for seed in (42, 43, 42)]
    assert replies[0] == replies[2] and seen[0] == seen[2]
    assert not set(seen[0]) & set(seen[1])


def test_nothing_is_shown_before_the_reply_is_chosen(writer):
    shown = []
    reply = writer.write(HISTORY, "anger", "DPO", 42, lambda name, text: shown.append((name, text)))
    assert shown[-1] == ("DPO", reply.response)
    assert len(shown) > 2 and set(shown[:-1]) == {("DPO", "")}


def test_a_reply_that_is_stopped_leaves_the_model_as_it_was(writer):
    def stop(name, text):
        raise ReplyStopped

    before = writer.write(HISTORY, "anger", "base", 42, ignore)
    with pytest.raises(ReplyStopped):
        writer.write(HISTORY, "anger", "SFT", 42, stop)
    assert writer.write(HISTORY, "anger", "base", 42, ignore) == before


def test_settings_that_only_generate_knows_and_a_model_without_adapter(tiny, best_of, capsys):
    generation = {"max_new_tokens": 8, "do_sample": True, "min_p": 0.01}
    alone = load_writer(tiny, best_of=best_of, generation=generation, adapters={"base": "none"})
    assert alone.model.best_of.method == method.GENERATE
    assert "only it knows generation.min_p" in capsys.readouterr().err
    first, again, other = (alone.write(HISTORY, "anger", "base", seed, ignore) for seed in (1, 1, 2))
    assert first == again and first.response != other.response
    assert first.choice.samples == SAMPLES


def test_without_labels_the_reward_chooses(tiny):
    reward = {"emotion_weight": 0, "gibberish_weight": 0, "length_weight": 1.0, "bias": 0}
    reward |= {"min_characters": 1, "max_characters": 1000}  # so long replies are best
    best_of = {"samples": SAMPLES, "choose_by": "reward", "reward": reward}
    writer = load_writer(tiny, labels=[], scoring=None, best_of=best_of, adapters={"base": "none"})
    with pytest.MonkeyPatch.context() as patch:
        seen = watch_candidates(writer, patch)
        reply = writer.write([{"role": "user", "content": "Hello"}], None, "base", 1, ignore)
    assert reply.response in seen[0] and reply.labels is None
    assert reply.describe().startswith(f"best of {SAMPLES}, reward ")


def test_a_classifier_that_cannot_choose_is_refused_before_the_model_is_loaded(tiny):
    changes = {"best_of": {"scoring": {"emotion_model": str(tiny.folder / "gibberish")}}, "scoring": None}
    arguments = validate_arguments(ChatArguments, tiny.chat(**changes), "args.json")
    with pytest.raises(InputError, match="best_of.scoring.emotion_model: .*its labels are clean, noise"):
        ReplyWriter(arguments)


def make_reply(choice: Choice | None) -> Reply:
    return Reply("SFT", "anger", 42, "No !", 3, False, 0, None, choice)


def test_the_facts_and_the_saved_row_say_how_the_reply_was_chosen(tmp_path):
    chosen = make_reply(Choice(6, "target_probability", 0.934))
    assert chosen.describe() == (
        "target anger; best of 6, target probability by the choosing classifier 0.93; 3 tokens; seed 42"
    )
    assert make_reply(None).describe() == "target anger; 3 tokens; seed 42"
    assert chosen.to_record()["best_of"] == {"samples": 6, "choose_by": "target_probability", "score": 0.934}
    assert "best_of" not in make_reply(None).to_record()


def test_a_saved_dialogue_can_be_read_again(writer, tmp_path):
    dialogue = start_dialogue(writer)
    dialogue.say("Hello", ignore)
    dialogue.save(str(tmp_path / "saved.jsonl"))
    (row,) = read_lines(tmp_path / "saved.jsonl")
    assert row["replies"][0]["best_of"]["samples"] == SAMPLES


def test_the_user_is_told_that_replies_are_being_written(writer):
    note = f"writing {SAMPLES} replies, of which the best one is shown"
    dialogue = start_dialogue(writer)
    assert describe_dialogue("id", dialogue)["wait_note"] == note
    for line in ("Hello", "/compare"):
        console = PlainConsole(file=io.StringIO(), width=200)
        run_line(line, dialogue, TerminalView(console, dialogue.wait_note))
        shown = console.file.getvalue()
        assert shown.startswith(note) and dialogue.last_turn().reply.response.split()[0] in shown
    console = PlainConsole(file=io.StringIO(), width=200)
    streamed = start_dialogue(StubWriter())
    run_line("Hello", streamed, TerminalView(console, streamed.wait_note))
    assert console.file.getvalue().startswith("SFT")
