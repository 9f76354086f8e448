"""Scores of candidates with the fit to their dialogues, by a tiny random model."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
from tiny_models import demo_rows

from response_generator.config.preference_schema import PreferenceDataArguments
from response_generator.config.validation import validate_arguments
from response_generator.data.datasets import Dialogue
from response_generator.preferences.candidate_scorer import CandidateScorer
from response_generator.scoring.fit import FitMeter, Reply

WEIGHTS = {"emotion_weight": 0.0, "gibberish_weight": 0.0, "length_weight": 0.0, "bias": 0.0, "fit_weight": 2.0}


def make_args(tiny, tmp_path, **changes) -> PreferenceDataArguments:
    scoring = {"fit_model": tiny.base, "fit_dialogues": 3}
    values = tiny.preferences(tmp_path, scoring=scoring, reward=WEIGHTS, filters=None, candidates=2) | changes
    return validate_arguments(PreferenceDataArguments, values, "args.json")


@pytest.fixture(scope="module")
def prompts() -> list[Dialogue]:
    rows = [row["prompt"] for row in demo_rows("dialogues_test", 8)]
    last = [row[-1]["content"] for row in rows]
    return [
        Dialogue(index, row[:-1], content["emotion"], content["dialog"])
        for index, (row, content) in enumerate(zip(rows, last, strict=True))
    ]


@pytest.fixture
def texts(prompts) -> list[list[str]]:
    """Two attempts at each prompt: two gold replies of other dialogues, and two more."""
    gold = [prompt.gold_response for prompt in prompts]
    return [[gold[(index + step) % 8] for step in (1, 2, 3, 4)] for index in range(8)]


def score(scorer: CandidateScorer, prompts, texts):
    return scorer.score([SimpleNamespace(dialogue=prompt) for prompt in prompts], texts)


def test_scores_do_not_depend_on_what_is_scored_together(tiny, tmp_path, prompts, texts):
    args = make_args(tiny, tmp_path, filters={"min_margin": 0.3})
    scorer = CandidateScorer(args, prompts)
    together = score(scorer, prompts, texts)
    another = CandidateScorer(args, prompts)
    alone = [score(another, [prompts[place]], [texts[place]])[0] for place in (5, 2, 7, 0)]
    assert alone == [together[place] for place in (5, 2, 7, 0)]
    assert {len(attempts) for attempts in together} == {1, 2}  # some were tried again
    first_attempts = score(scorer, prompts, [row[:2] for row in texts])
    assert [attempts[0] for attempts in first_attempts] == [attempts[0] for attempts in together]


def test_the_reward_is_the_fit_of_an_evaluation_times_its_weight(tiny, tmp_path, prompts, texts):
    args = make_args(tiny, tmp_path)
    found = [attempts[0].candidates for attempts in score(CandidateScorer(args, prompts), prompts, texts)]
    histories = {prompt.index: prompt.history for prompt in prompts}
    replies = [
        Reply(prompt.index, prompt.target_emotion, text)
        for prompt, row in zip(prompts, texts, strict=True)
        for text in row[:2]
    ]
    asked = {(reply.index, reply.target) for reply in replies}
    fits = FitMeter(args.scoring, args.seed, histories, asked).measure(replies)
    for fit, candidate in zip(fits, [each for row in found for each in row], strict=True):
        assert candidate.fit == pytest.approx(fit.nats, abs=1e-3)
        assert candidate.reward == pytest.approx(2 * fit.nats, abs=2e-3)
    assert len({candidate.fit for row in found for candidate in row}) > 8


def test_the_fit_is_measured_only_where_a_pair_may_pass(tiny, tmp_path, prompts, texts, monkeypatch):
    args = make_args(tiny, tmp_path, filters={"max_length_difference": 0}, gold_as_chosen=True)
    scorer = CandidateScorer(args, prompts)
    measured = []
    measure = scorer.fit_meter.measure
    monkeypatch.setattr(scorer.fit_meter, "measure", lambda replies: measured.append(replies) or measure(replies))
    prompt = replace(prompts[0], gold_response="I do too .")  # four words
    ((first, second),) = score(scorer, [prompt], [["No", "Well", "I see that .", "No"]])
    assert first.failure == "max_length_difference" and first.candidates == [] and first.texts == ["No", "Well"]
    assert [[reply.text for reply in each] for each in measured] == [["I see that .", "No", "I do too ."]]
    assert {candidate.fit for candidate in (*second.candidates, second.gold)} != {None}
