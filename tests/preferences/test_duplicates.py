"""Exact and near duplicates."""

from pairs import make_pair

from response_generator.preferences.duplicates import find_exact_duplicates, find_near_duplicates

# Ten words, so eight sequences of three words; with the last word changed, seven of nine sequences are shared.
LONG = "one two three four five six seven eight nine ten"
EIGHTEEN = " ".join(f"w{number}" for number in range(18))


def test_an_exact_duplicate_repeats_prompt_and_both_replies():
    pairs = [make_pair(0), make_pair(1), make_pair(0), make_pair(0, rejected="No !"), make_pair(0)]
    assert find_exact_duplicates(pairs) == {2, 4}


def test_a_near_duplicate_shares_four_fifths_of_the_sequences():
    changed = LONG.rpartition(" ")[0] + " last"
    assert find_near_duplicates([make_pair(0, LONG), make_pair(0, changed)]) == set()  # 7 of 9
    changed = EIGHTEEN.rpartition(" ")[0] + " last"
    assert find_near_duplicates([make_pair(0, EIGHTEEN), make_pair(0, changed)]) == {1}  # 15 of 17


def test_chinese_characters_are_words():
    text = "一二三四五六七八九十百千萬億兆京垓秭"  # 18 characters
    assert find_near_duplicates([make_pair(0, text), make_pair(0, text[:-1] + "廦")]) == {1}  # 15 of 17
    assert find_near_duplicates([make_pair(0, text), make_pair(0, text[9:] + text[:9])]) == set()


def test_all_three_texts_have_to_be_near():
    assert find_near_duplicates([make_pair(0), make_pair(0, rejected="Something else entirely , really .")]) == set()
    other_prompt = [{"role": "user", "content": {"emotion": "neutral", "dialog": "Nothing of the kind here ."}}]
    assert find_near_duplicates([make_pair(0), make_pair(0, prompt=other_prompt)]) == set()
    assert find_near_duplicates([make_pair(0), make_pair(0, "THAT is great news !")]) == {1}  # case does not count
    assert find_near_duplicates([]) == set()


def test_a_chain_of_similar_pairs_keeps_its_first_and_what_differs_from_it():
    words = [f"w{number}" for number in range(18)]
    second = [*words[:-1], "x"]  # near the first
    third = ["y", *second[1:]]  # near the second alone
    pairs = [make_pair(0, " ".join(text)) for text in (words, second, third)]
    assert find_near_duplicates(pairs[1:]) == {1}
    assert find_near_duplicates(pairs) == {1}
