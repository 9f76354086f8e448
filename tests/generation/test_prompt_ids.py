"""Every path continues a prompt from the same token ids, and both ways of generating write the same replies."""

from dataclasses import replace

import pytest
import torch
from conftest import LLAMA2, ROOT, Tiny, published_dpo
from peft import LoraConfig, get_peft_model
from published_models import MARKERS, SPECIAL_TOKENS, write_published_tokenizer
from tiny_families import FAMILIES
from tiny_models import EMOTION_LABELS, demo_rows, write_tiny_tokenizer
from tiny_models import SPECIAL_TOKENS as TINY_SPECIAL_TOKENS
from transformers import LlamaConfig, LlamaForCausalLM

from response_generator.chat.reply_writer import ReplyWriter
from response_generator.config.chat_schema import ChatArguments
from response_generator.config.preference_schema import PreferenceDataArguments
from response_generator.config.schema import ChatTemplateArguments, EvaluateArguments
from response_generator.config.training_schema import DPOArguments, SFTArguments
from response_generator.config.validation import validate_arguments
from response_generator.data.chat_template import ChatFormatter
from response_generator.data.datasets import Dialogue, Pair, parse_dialogue, parse_pair
from response_generator.data.dialogue_tokenization import IGNORED_LABEL, tokenize_dialogues
from response_generator.data.pair_tokenization import render_pair, tokenize_pairs
from response_generator.data.prompt_tokens import tokenize_prompt
from response_generator.evaluation import pair_logprobs, pipeline
from response_generator.generation import method
from response_generator.generation.generation_requests import (
    BatchLimit,
    GenerationRequest,
    SamplingParams,
    build_generation_config,
    decode_reply,
)
from response_generator.preferences import preparation as preference_preparation
from response_generator.training import preparation
from response_generator.training.monitoring.samples import build_request

TEMPLATES = ROOT / "response_generator" / "data" / "templates"
FIRST_CHARACTERS = ("", "¡", '"', "1", "🙂", " ", "...")


def build_formatter(name: str, folder) -> ChatFormatter:
    """A tokenizer of the family, with its template."""
    if name == "llama2":
        tokenizer = write_published_tokenizer(folder)
    elif name == "chatml":
        tokenizer = write_tiny_tokenizer(folder, TINY_SPECIAL_TOKENS, bos_token="<|im_start|>", eos_token="<|im_end|>")
    else:
        tokenizer = write_tiny_tokenizer(folder, FAMILIES[name].special_tokens, **FAMILIES[name].named)
        if name == "gemma3":
            tokenizer.eos_token = "<end_of_turn>"
    return ChatFormatter.of(
        tokenizer, ChatTemplateArguments(file=str(TEMPLATES / f"{name}_emotion.jinja")), EMOTION_LABELS
    )


@pytest.fixture(scope="module")
def dialogues() -> list[Dialogue]:
    rows = [*demo_rows("dialogues_test", 126), *demo_rows("dialogues_validation", 77)]
    return [parse_dialogue(number, row, EMOTION_LABELS) for number, row in enumerate(rows)]


def vary_reply(dialogue: Dialogue) -> Dialogue:
    """The dialogue with another first character of its gold reply, a different one in each row."""
    start = FIRST_CHARACTERS[dialogue.index % len(FIRST_CHARACTERS)]
    return replace(dialogue, gold_response=start + dialogue.gold_response)


def to_pair(dialogue: Dialogue) -> Pair:
    contents = [
        {"emotion": dialogue.target_emotion, "dialog": f"{dialogue.gold_response}{end}"} for end in ("", " No .")
    ]
    return Pair(dialogue.index, dialogue.history, *contents, None, None)


def to_text(pair: Pair, formatter: ChatFormatter) -> Pair:
    return replace(pair, **dict(zip(("prompt", "chosen", "rejected"), render_pair(pair, formatter), strict=True)))


def find_replies(row: dict) -> list[int]:
    """The places where replies start in a row of SFT."""
    labels = [IGNORED_LABEL, *row["labels"]]
    return [at for at in range(len(labels) - 1) if labels[at] == IGNORED_LABEL != labels[at + 1]]


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(["llama2", "chatml", *FAMILIES]))
def test_no_reply_changes_the_ids_of_its_prompt(name, dialogues, tmp_path):
    formatter = build_formatter(name, tmp_path)
    rows_of_pairs = demo_rows("written_pairs_validation", 150 if name == "llama2" else 20)
    if name != "llama2":
        dialogues = dialogues[::6]  # still with every first character
    prompts = [formatter.prompt(each.history, each.target_emotion) for each in dialogues]
    expected = [tokenize_prompt(prompt, formatter) for prompt in prompts]
    if name == "llama2":
        assert {ids[-1] for ids in expected} == {formatter.tokenizer.convert_tokens_to_ids("[/EMOTION]")}
    else:  # nothing of the other templates changes when a reply follows
        assert expected == [formatter.encode(prompt) for prompt in prompts]
    varied = [vary_reply(each) for each in dialogues]
    requests = [GenerationRequest.of(each, formatter) for each in varied]
    assert [request.prompt_ids for request in requests] == expected
    assert [build_request(each, formatter).prompt_ids for each in varied] == expected

    wholes = [request.prompt_ids + request.gold_ids for request in requests]
    last = tokenize_dialogues(varied, formatter, None, "last").rows
    assert [row["input_ids"] for row in last] == wholes
    assert [row["input_ids"][: find_replies(row)[0]] for row in last] == expected
    rows = tokenize_dialogues(varied, formatter, None, "all").rows
    assert [row["input_ids"] for row in rows] == wholes
    for row, dialogue, prompt_ids in zip(rows, varied, expected, strict=True):
        earlier = range(1, len(dialogue.history), 2)
        turns = [formatter.prompt(dialogue.history[:at], dialogue.history[at]["content"]["emotion"]) for at in earlier]
        starts = [len(tokenize_prompt(turn, formatter)) for turn in turns]
        assert find_replies(row) == [*starts, len(prompt_ids)]

    written = [parse_pair(number, row, EMOTION_LABELS) for number, row in enumerate(rows_of_pairs)]
    for pairs in ([to_pair(each) for each in varied], written):
        prompt_ids = [tokenize_prompt(render_pair(pair, formatter)[0], formatter) for pair in pairs]
        for same in (pairs, [to_text(pair, formatter) for pair in pairs]):
            tokens = tokenize_pairs(same, formatter, None)
            assert ([row["prompt_ids"] for row in tokens.rows], tokens.merged) == (prompt_ids, 0)
            assert [build_request(pair, formatter).prompt_ids for pair in same] == prompt_ids


def test_all_programs_use_the_same_ids(tiny: Tiny, published, dialogues, tmp_path):
    """Training, evaluation, building of pairs and chat, prepared with the published tokenizer and template."""
    models = {"base_model": str(published / "base"), "adapter": str(published / "adapter_two_tables")}
    models["chat_template"] = {"file": LLAMA2, "special_tokens": SPECIAL_TOKENS, "required_markers": MARKERS}
    varied = [vary_reply(each) for each in dialogues]
    pairs = [to_pair(each) for each in varied]
    samples = {"every_steps": 1, "prompts": 20, "max_new_tokens": 8}

    values = tiny.evaluate(
        tmp_path / "evaluate",
        **models | {"baseline_adapter": str(published / "adapter_three_copies")},
        heldout_pairs={"dataset": {"path": "pairs.jsonl"}, "beta": 0.1},
    )
    evaluation = pipeline.prepare_evaluation(validate_arguments(EvaluateArguments, values, "args.json"), varied, pairs)
    expected = [request.prompt_ids for request in evaluation.requests]
    (batches,) = pair_logprobs.find_remaining_batches(tmp_path, ["adapter"], evaluation.held_out).values()
    assert [pair["prompt_ids"] for _, pair in sorted(pair for batch in batches for pair in batch)] == expected

    values = tiny.preferences(tmp_path / "preferences", **models)
    building = preference_preparation.prepare_building(
        validate_arguments(PreferenceDataArguments, values, "args.json"), varied
    )
    assert [request.prompt_ids for request in building.requests] == expected

    values = published_dpo(tiny, published, tmp_path / "dpo", "adapter_two_tables") | {"sample_replies": samples}
    values["dpo"]["max_length"] = None
    dpo = preparation.prepare_dpo(validate_arguments(DPOArguments, values, "args.json"), pairs, [])
    assert [row["prompt_ids"] for row in dpo.train.rows] == expected
    assert all(request.prompt_ids == expected[request.dialogue.index] for request in dpo.sample_requests)

    values = tiny.sft(tmp_path / "sft", **models, lora=None, sample_replies=samples, replies="last")
    sft = preparation.prepare_sft(validate_arguments(SFTArguments, values, "args.json"), varied, [])
    assert [row["input_ids"][: find_replies(row)[0]] for row in sft.train.rows] == expected
    assert all(request.prompt_ids == expected[request.dialogue.index] for request in sft.sample_requests)
    assert len(dpo.sample_requests) == len(sft.sample_requests) == 20

    adapter = models.pop("adapter")
    writer = ReplyWriter(
        validate_arguments(ChatArguments, tiny.chat(**models, adapters={"published": adapter}), "args.json")
    )
    assert [writer.fit(each.history, each.target_emotion) for each in varied] == [(ids, 0) for ids in expected]


REPLIES = ("I am so happy for you !", "5 times ! Are you sure ?", "Oh no , that is sad .", "Who is there ?")


@pytest.mark.slow
def test_a_trained_model_writes_the_learned_replies_in_both_ways(dialogues, tmp_path):
    formatter = build_formatter("llama2", tmp_path)
    tokenizer = formatter.tokenizer
    learned = [replace(each, gold_response=reply) for each, reply in zip(dialogues, REPLIES, strict=False)]
    rows = tokenize_dialogues(learned, formatter, None, "last").rows
    model = train(rows, len(tokenizer))
    requests = [GenerationRequest.of(each, formatter) for each in learned]
    config = build_generation_config({"max_new_tokens": 40, "do_sample": False}, tokenizer)
    written = {
        name: method.generate(name, model, requests, SamplingParams(config, 0, 1), BatchLimit(3), lambda finished: None)
        for name in (method.CONTINUOUS_BATCHING, method.GENERATE)
    }
    for replies in written.values():
        assert [each.samples[0] for each in replies] == [request.gold_ids for request in requests]
        assert tuple(decode_reply(each.samples[0], tokenizer) for each in replies) == REPLIES
        assert all(each.gold_logp > -1 for each in replies)
    assert method.replies_agree(model, config, requests)


def train(rows: list[dict], vocabulary: int):
    """A small Llama that has learned the rows, with a LoRA that changes nothing yet."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=vocabulary, **sizes))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(60):
        loss = sum(
            model(input_ids=torch.tensor([row["input_ids"]]), labels=torch.tensor([row["labels"]])).loss for row in rows
        )
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj"])).eval()
