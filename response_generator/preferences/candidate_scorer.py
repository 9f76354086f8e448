"""Scores the candidates of prompts with the classifiers."""

from collections.abc import Sequence

from response_generator.config.preference_schema import PreferenceDataArguments
from response_generator.data.datasets import Dialogue
from response_generator.generation.generation_requests import GenerationRequest
from response_generator.preferences.attempts import Attempt, LabelPair, find_early_failure, score_attempt
from response_generator.scoring import classifiers
from response_generator.scoring.reward import read_penalized_words


class CandidateScorer:
    """The classifiers of a run, loaded once."""

    def __init__(self, args: PreferenceDataArguments):
        self.args = args
        self.penalized = read_penalized_words(args.reward, args.label_set)
        self.emotions = classifiers.load_emotion_classifier(args.scoring)
        self.gibberish = classifiers.load_gibberish_classifier(args.scoring)

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
        scored = []
        for texts in attempts:
            failure = find_early_failure(texts, self.args)
            scored.append(
                Attempt(texts, [], None, failure)
                if failure
                else score_attempt(prompt, texts, labels, self.args, self.penalized)
            )
            if not scored[-1].failure:
                break
        return scored
