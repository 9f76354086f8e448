"""Models other than Llama 2 are trained and evaluated: those of the recipes in args/ (Llama 3, Qwen 3, Gemma 3), GPT-2,
whose layers are Conv1D, and GPT-NeoX."""

import pytest
import torch
from conftest import HISTORY, read_json
from peft import LoraConfig, get_peft_model
from script_runs import run_here
from tiny_families import FAMILIES, read_recipe, write_tiny_family
from tiny_models import EMOTION_LABELS, write_tiny_tokenizer
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    PreTrainedModel,
)

import evaluate
import fine_tune_dpo
from response_generator import sft
from response_generator.chat import __main__ as chat
from response_generator.config.schema import ChatTemplateArguments
from response_generator.data.chat_template import ChatFormatter

SIZES = {"num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 64, "max_position_embeddings": 512}


def gpt2(**fields) -> PreTrainedModel:
    return GPT2LMHeadModel(GPT2Config(**SIZES, **fields))


def gpt_neox(**fields) -> PreTrainedModel:
    return GPTNeoXForCausalLM(GPTNeoXConfig(**SIZES, intermediate_size=128, **fields))


@pytest.mark.parametrize(
    ("build", "targets"),
    [(gpt2, ["c_attn", "c_fc"]), (gpt_neox, ["query_key_value", "dense_h_to_4h"])],
    ids=["GPT-2", "GPT-NeoX"],
)
def test_a_model_of_another_family_is_trained_and_evaluated(tiny, tmp_path, capsys, build, targets):
    tokenizer = AutoTokenizer.from_pretrained(tiny.base)
    torch.manual_seed(0)
    model = build(vocab_size=len(tokenizer), eos_token_id=tokenizer.eos_token_id, bos_token_id=tokenizer.bos_token_id)
    for part in (model.to(torch.bfloat16), tokenizer):
        part.save_pretrained(tmp_path / "base")
    lora = LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=targets, init_lora_weights=False)
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    get_peft_model(base, lora).save_pretrained(tmp_path / "sft")
    changes = {"base_model": str(tmp_path / "base"), "adapter": str(tmp_path / "sft")}

    values = tiny.dpo(tmp_path / "run", **changes)
    assert run_here(fine_tune_dpo.main, values, tmp_path) == 2
    assert "models have no such field; remove it, or pass --set from_pretrained.pretraining_tp=null" in (
        capsys.readouterr().err
    )
    options = ("--set", "from_pretrained.pretraining_tp=null")
    assert run_here(fine_tune_dpo.main, values, tmp_path, *options, "--dry_run") == 0
    assert "measured: " in capsys.readouterr().out
    assert run_here(fine_tune_dpo.main, values, tmp_path, *options) == 0
    assert read_json(tmp_path / "run" / "metrics.json")["initial_loss"] == pytest.approx(0.6931, abs=1e-3)

    values = tiny.evaluate(tmp_path / "evaluation", **changes | {"adapter": str(tmp_path / "run" / "adapter")})
    values["baseline_adapter"] = changes["adapter"]
    assert run_here(evaluate.main, values, tmp_path, *options) == 0
    metrics = read_json(tmp_path / "evaluation" / "metrics.json")
    assert metrics["difference/gold_perplexity"] != 0


@pytest.mark.parametrize("family", FAMILIES)
def test_the_recipe_of_a_family_trains_and_evaluates(tiny, tmp_path, capsys, family):
    """The args files in args/FAMILY, on a tiny model with the family's structure and special tokens."""
    base = tmp_path / "base"
    write_tiny_family(family, base)
    dialogues = {"path": str(tiny.folder / "dialogues.jsonl"), "limit": 2}
    values = read_recipe(family, "sft", base, tmp_path / "sft", dataset=dialogues, eval_dataset=None)
    assert run_here(sft.main, values, tmp_path) == 0

    start = str(tmp_path / "sft" / "adapter")
    pairs = {"path": str(tiny.folder / "pairs.jsonl"), "limit": 4}
    values = read_recipe(family, "dpo", base, tmp_path / "dpo", dataset=pairs, adapter=start)
    assert run_here(fine_tune_dpo.main, values, tmp_path) == 0
    metrics = read_json(tmp_path / "dpo" / "metrics.json")
    assert metrics["steps"] == 2 and metrics["initial_max_logp_gap"] < 0.1, metrics

    trained = str(tmp_path / "dpo" / "adapter")
    scoring = tiny.evaluate(tmp_path)["scoring"]
    values = read_recipe(family, "chat", base, tmp_path, adapters={"SFT": start, "DPO": trained}, scoring=scoring)
    del values["output_dir"], values["wandb"]
    assert run_here(chat.main, values, tmp_path, "--dry_run") == 0

    adapters = {"adapter": trained, "baseline_adapter": start}
    for backend in ("unsloth", "transformers"):
        output = tmp_path / backend
        changes = {"backend": backend, "dataset": dialogues, "scoring": scoring} | adapters
        values = read_recipe(family, "evaluate", base, output, **changes)
        assert run_here(evaluate.main, values, tmp_path) == 0
        assert read_json(output / "metrics.json")["prompts"] == 2
    printed = capsys.readouterr()
    assert ("layers that do not attend to all earlier tokens" in printed.out + printed.err) == (family == "gemma3")


RENDERED = {  # of HISTORY, then a reply with the target emotion fear
    "llama3": (
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nSYSTEM<|eot_id|>"
        "<|start_header_id|>user happiness<|end_header_id|>\n\nI got the job !<|eot_id|>"
        "<|start_header_id|>assistant surprise<|end_header_id|>\n\nReally ? Congratulations !<|eot_id|>"
        "<|start_header_id|>user neutral<|end_header_id|>\n\nThank you .<|eot_id|>"
        "<|start_header_id|>assistant fear<|end_header_id|>\n\n",
        "Oh no .<|eot_id|>",
    ),
    "qwen3": (
        "<|im_start|>system\nSYSTEM<|im_end|>\n"
        "<|im_start|>user happiness\nI got the job !<|im_end|>\n"
        "<|im_start|>assistant surprise\n<think>\n\n</think>\n\nReally ? Congratulations !<|im_end|>\n"
        "<|im_start|>user neutral\nThank you .<|im_end|>\n"
        "<|im_start|>assistant fear\n<think>\n\n</think>\n\n",
        "Oh no .<|im_end|>",
    ),
    "gemma3": (
        "<bos><start_of_turn>user happiness\nSYSTEM\n\nI got the job !<end_of_turn>\n"
        "<start_of_turn>model surprise\nReally ? Congratulations !<end_of_turn>\n"
        "<start_of_turn>user neutral\nThank you .<end_of_turn>\n"
        "<start_of_turn>model fear\n",
        "Oh no .<end_of_turn>",
    ),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_template_of_a_family(tmp_path, family):
    """The expected text is written by hand after the families' own templates."""
    tokenizer = write_tiny_tokenizer(tmp_path, FAMILIES[family].special_tokens, **FAMILIES[family].named)
    recipe = read_recipe(family, "dpo", tmp_path, tmp_path)["chat_template"] | {"system_prompt": "SYSTEM"}
    tokenizer.add_special_tokens(recipe["special_tokens"])
    formatter = ChatFormatter.of(tokenizer, ChatTemplateArguments(**recipe), EMOTION_LABELS)
    prompt, reply = RENDERED[family]
    assert formatter.prompt(HISTORY, "fear") == prompt
    assert formatter.completion(HISTORY, "fear", {"emotion": "fear", "dialog": "Oh no ."}) == reply
    assert formatter.missing_markers(prompt) == []
    assert len(tokenizer) <= 600  # no token was added, so the embeddings stay those of the base model


def test_each_target_module_must_exist(tiny, tmp_path, capsys):
    values = tiny.sft(tmp_path / "run")
    values["lora"]["target_modules"] = ["q_proj", "query_key_value"]
    assert run_here(sft.main, values, tmp_path, "--dry_run") == 2
    assert capsys.readouterr().err == (
        "error: lora.target_modules: query_key_value: the base model has no such module; its linear layers are "
        "down_proj, gate_proj, k_proj, lm_head, o_proj, q_proj, up_proj, v_proj\n"
    )
