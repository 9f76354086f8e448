"""Sampling: padding must not change replies, a seed must fix them, borrowed state must come back."""

import pytest
import torch
from conftest import CHATML
from transformers import AutoModelForCausalLM, AutoTokenizer

from response_generator import model as models
from response_generator.adapters import AdapterFile
from response_generator.arguments import ChatTemplateArguments, DatasetArguments
from response_generator.chat_template import Renderer
from response_generator.contestants import ADAPTER
from response_generator.data import read_dialogues
from response_generator.errors import InputError
from response_generator.generation import generate, generation_config, up_to_eos


@pytest.fixture(scope="module")
def speaker(tiny):
    base = AutoModelForCausalLM.from_pretrained(tiny.base, dtype=torch.float32)
    return models.add_adapter(base, AdapterFile.read(tiny.folder / "adapter"), ADAPTER).eval()


@pytest.fixture(scope="module")
def renderer(tiny):
    return Renderer.of(AutoTokenizer.from_pretrained(tiny.base), ChatTemplateArguments(file=CHATML))


@pytest.fixture(scope="module")
def dialogues(tiny):
    return read_dialogues(DatasetArguments(path=str(tiny.folder / "dialogues.jsonl")))


def test_a_batch_of_padded_prompts_says_what_each_prompt_says_alone(speaker, renderer, dialogues):
    greedy = generation_config({"max_new_tokens": 12, "do_sample": False}, renderer.tokenizer)
    lengths = {len(renderer.encode(renderer.prompt(row.history, row.target_emotion))) for row in dialogues}
    assert len(lengths) > 3  # else nothing is padded
    together = generate(speaker, renderer, dialogues, greedy, batch_size=6, seed=0)
    alone = generate(speaker, renderer, dialogues, greedy, batch_size=1, seed=0)
    assert [reply.response for reply in together.replies] == [reply.response for reply in alone.replies]
    assert [reply.dialogue for reply in together.replies] == dialogues


def test_a_seed_fixes_the_replies_and_another_changes_them(speaker, renderer, dialogues):
    sampling = generation_config({"max_new_tokens": 12, "do_sample": True, "temperature": 2.0}, renderer.tokenizer)
    first, again, other = (
        [reply.response for reply in generate(speaker, renderer, dialogues, sampling, 4, seed).replies]
        for seed in (1, 1, 2)
    )
    assert first == again != other


def test_min_and_max_new_tokens_hold_and_padding_side_comes_back(speaker, renderer, dialogues):
    before = renderer.tokenizer.padding_side
    assert before == "right"
    config = generation_config({"max_new_tokens": 7, "min_new_tokens": 3, "do_sample": True}, renderer.tokenizer)
    counts = [reply.new_tokens for reply in generate(speaker, renderer, dialogues, config, 4, 0).replies]
    assert all(3 <= count <= 7 for count in counts)
    assert renderer.tokenizer.padding_side == before


def test_tokens_after_the_eos_do_not_count():
    assert up_to_eos([5, 6, 2, 0, 0], eos=2) == [5, 6, 2]
    assert up_to_eos([5, 6], eos=2) == [5, 6]


def test_settings_that_do_not_go_together_are_refused(renderer):
    with pytest.raises(InputError, match="generation: "):
        generation_config({"do_sample": False, "temperature": 0.5}, renderer.tokenizer)
    with pytest.raises(InputError, match="max_new_tokens"):
        generation_config({"max_new_tokens": -1}, renderer.tokenizer)
