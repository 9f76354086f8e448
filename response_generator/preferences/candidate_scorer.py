"""Scores the candidates of prompts, with the classifiers and the model for the fit."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import permutations

from response_generator.config.preference_schema import PreferenceDataArguments
from response_generator.data.datasets import Dialogue
from response_generator.generation.generation_requests import GenerationRequest
from response_generator.preferences.attempts import Attempt, Candidate, LabelPair, to_pair
from response_generator.preferences.filters import PAIR_FILTERS, find_failed_filter
from response_generator.preferences.pair_selection import (
    FILTERS_OF_REJECTED,
    NO_GOOD_AND_BAD_REPLY,
    SAME_REPLIES,
    find_failure,
    select_pairs,
    suits_selection,
)
from response_generator.scoring import classifiers
from response_generator.scoring.emotion_words import EmotionWords
from response_generator.scoring.fit import FitMeter, Reply, find_greatest_fit
from response_generator.scoring.reward import read_penalized_words
from response_generator.scoring.rules import ends_with_punctuation


class CandidateScorer:
    """The models of a run that score, loaded once.

    prompts: all of the run, from which the other dialogues for the fit are drawn.
    """

    def __init__(self, args: PreferenceDataArguments, prompts: Sequence[Dialogue]):
        self.args = args
        self.penalized = read_penalized_words(args.reward, args.label_set)
        self.emotions = classifiers.load_emotion_classifier(args.scoring)
        self.gibberish = classifiers.load_gibberish_classifier(args.scoring)
        self.fit_meter: FitMeter | None = None
        if args.scoring.fit_model is not None:
            histories = {prompt.index: prompt.history for prompt in prompts}
            asked = {(prompt.index, prompt.target_emotion) for prompt in prompts}
            self.fit_meter = FitMeter(args.scoring, args.seed, histories, asked)

    def score(self, requests: Sequence[GenerationRequest], texts: Sequence[list[str]]) -> list[list[Attempt]]:
        """The attempts at each prompt up to the first that gave a pair.

        Args:
            texts: the candidates of each prompt, those of one attempt after the other.
        """
        size = self.args.candidates
        attempts = [[row[start : start + size] for start in range(0, len(row), size)] for row in texts]
        labels = self.classify(requests, attempts)
        return [
            self.score_attempts(request.dialogue, tried, labels)
            for request, tried in zip(requests, attempts, strict=True)
        ]

    def classify(self, requests: Sequence[GenerationRequest], attempts: list[list[list[str]]]) -> dict[str, LabelPair]:
        """The labels, by text, of all candidates whose attempt may give a pair, and of the gold replies if needed."""
        tried = [texts for row in attempts for texts in row if not find_early_failure(texts, self.args)]
        found = [text for texts in tried for text in texts if text]
        if self.args.gold_as_chosen:
            found += [request.dialogue.gold_response for request in requests]
        distinct = list(dict.fromkeys(found))
        found = (classifiers.classify(each, distinct) for each in (self.emotions, self.gibberish))
        return dict(zip(distinct, zip(*found, strict=True), strict=True))

    def score_attempts(
        self, prompt: Dialogue, attempts: list[list[str]], labels: dict[str, LabelPair]
    ) -> list[Attempt]:
        """The attempts at a prompt up to the first that gave a pair."""
        scored: list[Attempt] = []
        for texts in attempts:
            failure, fits = find_early_failure(texts, self.args), None
            if self.fit_meter and not failure:
                failure = find_failure_before_fit(prompt, texts, labels, self.args, self.penalized)
                fits = None if failure else self.measure_fits(prompt, texts)
            scored.append(
                Attempt(texts, [], None, failure)
                if failure
                else score_attempt(prompt, texts, labels, self.args, self.penalized, fits)
            )
            if not scored[-1].failure:
                break
        return scored

    def measure_fits(self, prompt: Dialogue, texts: Sequence[str]) -> dict[str, float]:
        """The fit of each candidate of an attempt, by text, and of the gold reply if needed. They are measured apart
        from those of other attempts, because the last digits depend on what is computed together."""
        tried = list(dict.fromkeys(filter(None, [*texts, *list_gold(prompt, self.args)])))
        replies = [Reply(prompt.index, prompt.target_emotion, text) for text in tried]
        return {text: fit.nats for text, fit in zip(tried, self.fit_meter.measure(replies), strict=True)}


def find_early_failure(texts: Sequence[str], args: PreferenceDataArguments) -> str | None:
    """Why no pair of these candidates can pass the filters, whatever their scores are; None if one may."""
    distinct = {text for text in texts if text}
    if len(distinct) < (1 if args.gold_as_chosen else 2):
        return SAME_REPLIES
    filters = args.filters
    if (
        filters.chosen_ends_with_punctuation
        and not args.gold_as_chosen
        and not any(map(ends_with_punctuation, distinct))
    ):
        return "chosen_ends_with_punctuation"
    return None


def find_failure_before_fit(
    dialogue: Dialogue,
    texts: Sequence[str],
    labels: Mapping[str, LabelPair],
    args: PreferenceDataArguments,
    penalized: EmotionWords,
) -> str | None:
    """Why no pair of these classified candidates can pass the filters, whatever their fit is: the filter that drops the
    last of them. None if one may pass.

    Args:
        labels, penalized: see `score_attempt`.
    """
    best_fits = dict.fromkeys([*texts, *list_gold(dialogue, args)], find_greatest_fit(args.scoring))
    attempt = score_candidates(dialogue, texts, labels, args, penalized, best_fits)
    filters = args.filters.model_copy(update=dict.fromkeys(FILTERS_OF_REJECTED))  # rejected's fit has no least value
    possible = permutations(attempt.candidates, 2)
    if attempt.gold:
        possible = ((attempt.gold, each) for each in attempt.candidates)
    possible = [(chosen, rejected) for chosen, rejected in possible if chosen.text != rejected.text]
    if not possible:
        return SAME_REPLIES
    suitable = [two for two in possible if suits_selection(dialogue, *two, args)]
    if not suitable:
        return NO_GOOD_AND_BAD_REPLY
    failed = [find_failed_filter(to_pair(dialogue, *two), filters, args.label_set) for two in suitable]
    return None if None in failed else max(failed, key=list(PAIR_FILTERS).index)


def score_attempt(
    dialogue: Dialogue,
    texts: Sequence[str],
    labels: Mapping[str, LabelPair],
    args: PreferenceDataArguments,
    penalized: EmotionWords,
    fits: Mapping[str, float] | None = None,
) -> Attempt:
    """Scores the candidates of an attempt and finds out whether a pair of them passes the filters.

    Args:
        labels: by text; of all candidates and, with `gold_as_chosen`, of the gold reply.
        penalized: see `reward.read_penalized_words`.
        fits: of the same texts, in nats a token; None without a model for the fit.
    """
    attempt = score_candidates(dialogue, texts, labels, args, penalized, fits or {})
    if select_pairs(dialogue, attempt, args):
        return attempt
    return replace(attempt, failure=find_failure(dialogue, attempt, args))


def score_candidates(
    dialogue: Dialogue,
    texts: Sequence[str],
    labels: Mapping[str, LabelPair],
    args: PreferenceDataArguments,
    penalized: EmotionWords,
    fits: Mapping[str, float],
) -> Attempt:
    """An attempt with the scores of its candidates that have text. See `score_attempt`."""
    target = dialogue.target_emotion
    candidates, gold = (
        [Candidate.of(text, labels[text], target, args.reward, penalized, fits.get(text)) for text in of_one if text]
        for of_one in (texts, list_gold(dialogue, args))
    )
    return Attempt(list(texts), candidates, gold[0] if gold else None, None)


def list_gold(dialogue: Dialogue, args: PreferenceDataArguments) -> list[str]:
    """The gold reply, if it is the chosen one."""
    return [dialogue.gold_response] if args.gold_as_chosen else []
