"""Which candidates of an attempt become a pair, by the key `pair_selection` of the args."""

import random
from collections.abc import Sequence

from response_generator.config.preference_schema import PreferenceDataArguments
from response_generator.data.datasets import Dialogue, Pair
from response_generator.preferences.attempts import DECIMALS, Attempt, Candidate, find_best_and_worst, to_pair
from response_generator.preferences.duplicates import list_word_sequences
from response_generator.preferences.filters import find_failed_filter

SAME_REPLIES = "all replies are the same"
NO_GOOD_AND_BAD_REPLY = "no pair of a good and a bad reply"
GOOD_AND_BAD = ("best_random_failing", "diverse")  # selections that need a reply of each kind
# Filters that look at the score of rejected. A reply that passes all others beside itself may be chosen.
FILTERS_OF_REJECTED = ("min_margin", "max_rejected_score")


def select_pairs(dialogue: Dialogue, attempt: Attempt, args: PreferenceDataArguments) -> list[Pair]:
    """The pairs of an attempt that pass the filters: with `pair_selection: "all"` every one, else the first that passes
    in the order in which they are tried."""
    tried = list_tried(dialogue, attempt, args)
    pairs = [to_pair(dialogue, chosen, rejected) for chosen, rejected in tried if chosen.text != rejected.text]
    passing = [pair for pair in pairs if find_failed_filter(pair, args.filters, args.label_set) is None]
    return passing if args.pair_selection == "all" else passing[:1]


def list_tried(
    dialogue: Dialogue, attempt: Attempt, args: PreferenceDataArguments
) -> list[tuple[Candidate, Candidate]]:
    """What is tried as chosen and rejected, in this order. Rejected has a smaller reward than chosen, unless this is
    the gold reply."""
    if args.pair_selection == "best_worst":
        return [find_best_and_worst(attempt)]
    distinct = list({each.text: each for each in attempt.candidates}.values())
    if args.pair_selection == "best_random_failing":
        chosen, rejected = choose_best(dialogue, distinct, args), shuffle_failing(dialogue, attempt, distinct, args)
    elif args.pair_selection == "diverse":
        chosen, rejected = order_by_diversity(dialogue, attempt, distinct, args)
    else:
        chosen, rejected = distinct, distinct
    if attempt.gold:
        chosen = [attempt.gold]
    tried = [(one, other) for one in chosen for other in rejected if attempt.gold or one.reward > other.reward]
    if args.pair_selection == "best_passing":
        tried.sort(key=lambda two: two[1].reward - two[0].reward)
    return tried


def choose_best(dialogue: Dialogue, candidates: Sequence[Candidate], args: PreferenceDataArguments) -> list[Candidate]:
    """The candidate with the greatest reward of those that may be chosen, the first of equal ones; none if none may."""
    able = [each for each in candidates if may_be_chosen(dialogue, each, args)]
    return sorted(able, key=lambda each: -each.reward)[:1]


def shuffle_failing(
    dialogue: Dialogue, attempt: Attempt, candidates: Sequence[Candidate], args: PreferenceDataArguments
) -> list[Candidate]:
    """The candidates without the target emotion, in an order that depends on the seed, the prompt and the texts of the
    attempt alone. So the first of them with which a pair passes is a random one."""
    failing = [each for each in candidates if each.emotion != dialogue.target_emotion]
    random.Random(f"{args.seed} {dialogue.index} {attempt.texts}").shuffle(failing)
    return failing


def order_by_diversity(
    dialogue: Dialogue, attempt: Attempt, candidates: Sequence[Candidate], args: PreferenceDataArguments
) -> tuple[list[Candidate], list[Candidate]]:
    """The most diverse of the good candidates, none if there are none; and the others, the least diverse first.

    This is the selection of Diverse Preference Optimization (arXiv 2501.18101, algorithm 1), in which a threshold of
    the reward tells good from bad. Here a good candidate may be chosen, and has the target emotion unless
    `filters.min_chosen_score` is such a threshold. Of equally diverse ones, the chosen one has the greatest reward, and
    the rejected one the least. The paper leaves the measure of diversity open; see `measure_diversity`.
    """
    texts = [each.text for each in attempt.candidates]
    diversity = dict(zip(texts, measure_diversity(texts), strict=True))
    has_threshold = args.filters.min_chosen_score is not None
    good = [
        each
        for each in candidates
        if (has_threshold or each.emotion == dialogue.target_emotion) and may_be_chosen(dialogue, each, args)
    ]
    bad = [each for each in candidates if each not in good]
    good.sort(key=lambda each: (-diversity[each.text], -each.reward))
    bad.sort(key=lambda each: (diversity[each.text], each.reward))
    return good[:1], bad


def measure_diversity(texts: Sequence[str]) -> list[float]:
    """How different each text is from the others: the mean over the others of 1 - |A and B| / |A or B|, where A and B
    are the two texts' sets of word bigrams, in lower case. It is 0 where all are the same, and 1 where a text shares no
    bigram with another. The bigram of a single word is this word. Without other texts, it is 0.
    """
    bigrams = [set(list_word_sequences(text, 2)) for text in texts]
    sums = [
        sum(1 - len(one & other) / len(one | other) for place, other in enumerate(bigrams) if place != own)
        for own, one in enumerate(bigrams)
    ]
    return [round(found / max(1, len(texts) - 1), DECIMALS) for found in sums]


def suits_selection(dialogue: Dialogue, chosen: Candidate, rejected: Candidate, args: PreferenceDataArguments) -> bool:
    """Whether two candidates have the emotions that `pair_selection` needs, whatever their rewards are."""
    if args.pair_selection == "best_random_failing":
        return rejected.emotion != dialogue.target_emotion
    if args.pair_selection == "diverse" and args.filters.min_chosen_score is None and not args.gold_as_chosen:
        return chosen.emotion == dialogue.target_emotion
    return True


def may_be_chosen(dialogue: Dialogue, candidate: Candidate, args: PreferenceDataArguments) -> bool:
    """Whether a candidate passes the filters as chosen, with some rejected reply."""
    filters = args.filters.model_copy(update=dict.fromkeys(FILTERS_OF_REJECTED))
    return find_failed_filter(to_pair(dialogue, candidate, candidate), filters, args.label_set) is None


def find_failure(dialogue: Dialogue, attempt: Attempt, args: PreferenceDataArguments) -> str:
    """Why an attempt has no pair: the filter that its best and worst candidate do not pass, or what else is missing."""
    best, worst = find_best_and_worst(attempt)
    failed = find_failed_filter(to_pair(dialogue, best, worst), args.filters, args.label_set)
    return failed or (NO_GOOD_AND_BAD_REPLY if args.pair_selection in GOOD_AND_BAD else SAME_REPLIES)
