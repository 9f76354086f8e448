"""What difference an evaluation can show, against simulated evaluations with the test that the program uses."""

import numpy as np
import pytest

from response_generator.cli.prompt_preview import describe_power
from response_generator.evaluation.statistics.intervals import paired_p_value
from response_generator.evaluation.statistics.power import find_smallest_difference


@pytest.mark.parametrize(("prompts", "differing"), [(60, 0.3), (126, 0.3), (400, 0.1)])
def test_about_80_percent_of_simulated_evaluations_find_it(prompts, differing):
    smallest = find_smallest_difference(prompts, differing)
    gained, lost = (differing + smallest) / 2, (differing - smallest) / 2
    random = np.random.default_rng(0)
    draws = random.choice([1, -1, 0], size=(2_000, prompts), p=[gained, lost, 1 - differing])
    found = np.mean([paired_p_value(differences, seed=0) < 0.05 for differences in draws])
    assert 0.75 <= found <= 0.83


def test_it_is_the_formula():
    assert find_smallest_difference(126, 0.3) == pytest.approx((1.959964 + 0.841621) * (0.3 / 126) ** 0.5)
    assert find_smallest_difference(26, 0.3) is None  # 30.1 points, more than differ at all
    assert find_smallest_difference(27, 0.3) == pytest.approx(0.2953, abs=1e-4)


def test_the_sentence_before_a_run():
    assert describe_power(126, replies=1) == (
        "126 prompts show a difference of 14 points or more in 80 % of such runs, "
        "if the models differ on 30 % of the prompts"
    )
    assert describe_power(126, replies=3).endswith("; several replies to a prompt lower that")
    assert describe_power(20, replies=1).startswith(
        "20 prompts are too few to show any difference in 80 % of such runs"
    )
