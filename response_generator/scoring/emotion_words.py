"""Words that name an emotion: which replies say "I'm so happy" where another would show it. Imports no torch.

The program's own list, emotion_words.json, has the lemmas of each emotion's name and of its closest synonyms in WordNet
3.1 (noun, verb and adjectives), in all their forms, without those that more often mean something else, such as
"sorry".
"""

import re
from functools import cache
from pathlib import Path

from response_generator.config import strict_json
from response_generator.errors import InputError
from response_generator.labels import Labels
from response_generator.scoring.words import compile_words

OWN_FILE = Path(__file__).with_name("emotion_words.json")

EmotionWords = dict[str, re.Pattern[str]]  # by label; the neutral one has none


def read_emotion_words(file: str | None, labels: Labels) -> EmotionWords | None:
    """Reads the words of each label but the neutral one.

    Args:
        file: None: the program's own.

    Returns:
        None where no file is named and the program's own does not have every label, or there are no labels.

    Raises:
        InputError: with everything that is wrong with the file.
    """
    if file is None:
        return read_own_words(labels)
    named = [name for name in labels.names if name != labels.neutral]
    lists = strict_json.read_object(Path(file))
    errors = [f"no words for {name}; add them" for name in named if name not in lists]
    for name, words in lists.items():
        if name not in named:
            errors.append(f"{name}: is not one of {', '.join(named)}; remove it, or set labels")
        elif not is_word_list(words):
            errors.append(f"{name}: got {repr(words):.60}; needed: a list of one or more words or phrases")
    if errors:
        raise InputError(*(f"{file}: {message}" for message in errors))
    return {name: compile_words(lists[name]) for name in named}


@cache
def read_own_words(labels: Labels) -> EmotionWords | None:
    named = [name for name in labels.names if name != labels.neutral]
    lists = strict_json.read_object(OWN_FILE)
    return {name: compile_words(lists[name]) for name in named} if named and lists.keys() >= set(named) else None


def is_word_list(words: object) -> bool:
    return isinstance(words, list) and words != [] and all(isinstance(word, str) and word.strip() for word in words)


def names_emotion(words: EmotionWords, text: str, target: str) -> bool:
    """Whether a text has a word for its target emotion; none names the neutral one."""
    return target in words and words[target].search(text) is not None


def find_word_errors(key: str, file: str | None, labels: Labels, needed: bool = False) -> list[str]:
    """Errors of the file that the args name as `key`; without labels, the conflicts of the args say that it has no use.

    Args:
        needed: it is an error, too, if the program's own words are not for these labels.
    """
    try:
        words = read_emotion_words(file, labels)
    except InputError as error:
        return [f"{key}: {message}" for message in error.messages]
    if words is None and needed:
        return [f"{key}: missing; the program's own words are not for {', '.join(labels.names)}; name a file with them"]
    return []
