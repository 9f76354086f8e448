"""What the GPU path promises, checked where there is no GPU: unsloth's GPU code, kernels apart."""

import json

import peft
import pytest
import torch
import transformers
from conftest import CHATML, ROOT, published_dpo
from script_runs import run_on_gpu_code
from tiny_models import EMOTION_LABELS, write_tiny_adapter

from response_generator.config.dataset_schema import DatasetArguments
from response_generator.config.schema import ChatTemplateArguments
from response_generator.config.training_schema import DPOArguments, SFTArguments
from response_generator.config.validation import validate_arguments
from response_generator.data.chat_template import ChatFormatter
from response_generator.data.dialogue_tokenization import tokenize_dialogues
from response_generator.data.reading import read_dialogues
from response_generator.generation.generation_requests import build_generation_config
from response_generator.generation.with_generate import truncate_at_eos
from response_generator.modeling.logprobs import completion_logps
from response_generator.training import trainer_config
from response_generator.training.sft_checks import split_replies

# None of them is TRL's default, and none is unsloth's.
ASKED = {
    "learning_rate": 3e-3,
    "per_device_train_batch_size": 2,
    "gradient_accumulation_steps": 3,
    "optim": "adamw_torch",
    "weight_decay": 0.02,
    "max_grad_norm": 0.7,
    "lr_scheduler_type": "cosine",
    "logging_steps": 1,
    "num_train_epochs": 2,
    "max_length": 256,
    "beta": 0.2,
    "eval_strategy": "epoch",
    "save_strategy": "epoch",
    "gradient_checkpointing": False,
    "bf16": True,  # as on a card, whatever this processor does well
}


# Of the published adapter: unsloth fuses LoRA where all of these have it.
PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
DPO_ASKED = ASKED | {"shared_prefix": False}  # with "auto" the layout would depend on the time
SFT_ASKED = {name: value for name, value in ASKED.items() if name != "beta"} | {
    "eval_strategy": "no",
    "max_length": 512,
}
SFT_ASKED |= {"gradient_accumulation_steps": 1, "save_strategy": "steps"}
SFT_LORA = {"r": 4, "lora_alpha": 8, "target_modules": PROJECTIONS}
GREEDY = {"max_new_tokens": 8, "min_new_tokens": 2, "do_sample": False}


@pytest.fixture(scope="module")
def contract_args(tiny, published, tmp_path_factory) -> dict[str, dict]:
    """Args of a training with a reference from another adapter, of an evaluation of the same two adapters, and of a
    training of the published adapter's build."""
    folder = tmp_path_factory.mktemp("contract")
    for name, seed in (("start", 1), ("other", 5)):
        lora = {"target_modules": PROJECTIONS, "lora_dropout": 0.1, "use_rslora": True}
        write_tiny_adapter(tiny.folder / "base", folder / name, seed=seed, **lora)
    own = {"adapter": str(folder / "start"), "seed": 7}
    own["from_pretrained"] = tiny.common(folder)["from_pretrained"] | {"load_in_4bit": False}
    tables = published_dpo(tiny, published, folder / "tables", "adapter_three_copies")
    tables["from_pretrained"]["load_in_4bit"] = False
    return {
        "tables": tables,
        "dpo": tiny.dpo(folder / "whole", reference_adapter=str(folder / "other"), dpo=DPO_ASKED, **own),
        "sft": tiny.sft(folder / "sft", sft=SFT_ASKED, lora=SFT_LORA, from_pretrained=own["from_pretrained"]),
        "evaluate": tiny.evaluate(
            folder / "evaluate",
            baseline_adapter=str(folder / "other"),
            generation=GREEDY,
            heldout_pairs={"dataset": {"path": str(tiny.folder / "pairs.jsonl")}, "beta": 0.1},
            **own,
        ),
    }


@pytest.fixture(scope="module")
def on_gpu_code(contract_args, tmp_path_factory) -> dict:
    """What the process on unsloth's GPU code reports, and the lines that it printed before."""
    folder = tmp_path_factory.mktemp("gpu_code")
    *lines, report = run_on_gpu_code("run_on_gpu_code.py", contract_args, folder)
    return json.loads(report) | {"printed": lines}


def test_the_trainer_under_ours_is_unsloths_compiled_one(on_gpu_code):
    assert on_gpu_code["trainers"][2:5] == ["CheckpointedTrainer", "UnslothDPOTrainer", "_UnslothDPOTrainer"]


def test_what_a_card_runs_in_place_of_peft_and_trl_ran(on_gpu_code):
    report = on_gpu_code["whole"]
    assert report["unsloths"] == {
        "qkv": "apply_lora_qkv",
        "o": "apply_lora_o",
        "mlp": "apply_lora_mlp_swiglu",
        "loop": "_fast_inner_training_loop",
        "lm_head": "_UnslothFusedLinearHead",
        "checkpointing_off": "_noop_disable_gradient_checkpointing",
    }
    # Policy and reference, in each of 12 batches, and in each of 2 evaluations on an epoch's end and one at the end.
    assert report["lm_head_kernel_calls"] >= 24


def test_compiled_layers_compute_what_others_do_for_policy_and_reference(on_gpu_code):
    report = on_gpu_code["compiled"]
    assert report["graphs"] > 0  # where unsloth cannot compile a layer it goes on without
    assert report["losses"] == pytest.approx(on_gpu_code["whole"]["losses"][:1], abs=1e-3)
    assert report["metrics"]["initial_max_logp_gap"] == pytest.approx(
        on_gpu_code["whole"]["metrics"]["initial_max_logp_gap"], abs=0.1
    )


def test_every_argument_is_the_one_of_the_cpu_path(on_gpu_code, contract_args):
    """The args' own, and TRL's defaults for the rest: unsloth's are batch 4 x 2, 5e-5, adamw_8bit, seed 3407."""
    expected = trainer_config.build_dpo_config(
        validate_arguments(DPOArguments, contract_args["dpo"], "args.json")
    ).to_dict()
    config = on_gpu_code["whole"]["config"]
    # Where files go; a field of TRL's tokenizing, which we do not use; unsloth's own checkpointing; the CPU backend's
    # choice of AdamW kernel, and its float32 on a processor without bfloat16.
    may_differ = {"output_dir", "dataset_num_proc", "gradient_checkpointing_kwargs", "optim", "bf16"}
    assert {name: config[name] for name in expected if name not in may_differ} == {
        name: str(value) for name, value in expected.items() if name not in may_differ
    }
    asked = ("learning_rate", "seed", "optim", "bf16")
    assert [config[name] for name in asked] == ["0.003", "7", "adamw_torch", "True"]


def test_policy_and_reference_are_the_named_adapters(on_gpu_code):
    report = on_gpu_code["whole"]
    assert report["adapters"] == ["default", "ref"]
    assert report["trained"] and all(".default." in name for name in report["trained"])
    assert (
        report["metrics"]["initial_max_logp_gap"] > 1
    )  # another reference: checked against its file, bit by bit, in the process
    assert len(report["losses"]) == report["metrics"]["steps"] == 4
    assert report["dtypes"] == ["torch.float32"]  # after training and evaluating
    assert report["facts"]["dtype"] == "bfloat16"
    assert report["metrics"]["eval_loss"] > 0


def test_a_reference_that_is_a_copy_starts_at_ln_2(on_gpu_code):
    metrics = on_gpu_code["checkpointed"]["metrics"]
    assert metrics["initial_loss"] == pytest.approx(0.6931, abs=1e-4)
    assert metrics["initial_max_logp_gap"] < 1e-3


def test_gradient_checkpointing_is_what_the_args_say(on_gpu_code):
    # 12 batches, each through policy and reference; with checkpoints backward runs the policy's layers once more.
    assert on_gpu_code["whole"]["passes_in_training"] == 24
    assert on_gpu_code["checkpointed"]["passes_in_training"] == 9  # 3 batches in one step


def test_the_memory_estimate_follows_gradient_checkpointing(on_gpu_code):
    without, checkpointed = (on_gpu_code[name]["estimated_activations"] for name in ("whole", "checkpointed"))
    # A token in 16 bits: 704 numbers in each of two fused layers; or the inputs of three, unsloth's checkpoints.
    assert without * 3 * 64 == checkpointed * 2 * 704


def test_a_stopped_run_resumes_to_the_same_bytes(on_gpu_code):
    assert "checkpoint-3 is saved; run the same command again" in on_gpu_code["stopped"]["interrupted"]
    assert on_gpu_code["resumed"]["losses"] == on_gpu_code["whole"]["losses"]
    assert on_gpu_code["resumed"]["adapter"] == on_gpu_code["whole"]["adapter"] != on_gpu_code["stopped"]["adapter"]


def test_sft_has_unsloths_trainer_and_kernels_with_the_settings_of_the_args(on_gpu_code, contract_args):
    assert on_gpu_code["sft_trainers"][2:5] == ["CheckpointedTrainer", "UnslothSFTTrainer", "_UnslothSFTTrainer"]
    report = on_gpu_code["sft"]
    assert report["mlp"] == "apply_lora_mlp_swiglu"
    expected = trainer_config.build_sft_config(
        validate_arguments(SFTArguments, contract_args["sft"], "args.json")
    ).to_dict()
    may_differ = {"output_dir", "dataset_num_proc", "gradient_checkpointing_kwargs", "optim", "bf16"}
    assert {name: report["config"][name] for name in expected if name not in may_differ} == {
        name: str(value) for name, value in expected.items() if name not in may_differ
    }


def test_sft_starts_at_the_loss_of_the_base_model_and_resumes_to_the_same_bytes(on_gpu_code, tiny):
    """Its first loss is checked against the log-probabilities of the replies in the process, too."""
    report = on_gpu_code["sft"]
    assert len(report["losses"]) == report["metrics"]["steps"] == 6
    assert report["metrics"]["initial_loss"] == pytest.approx(compute_base_loss(tiny), abs=0.05)
    assert report["losses"][-1] < report["losses"][0]
    assert "checkpoint-3 is saved" in on_gpu_code["sft_stopped"]["interrupted"]
    assert on_gpu_code["sft_resumed"]["losses"] == report["losses"]
    assert on_gpu_code["sft_resumed"]["adapter"] == report["adapter"] != on_gpu_code["sft_stopped"]["adapter"]


def compute_base_loss(tiny) -> float:
    """Mean negative log-probability (nats a token) of the replies of the first two dialogues, by plain transformers."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny.base)
    formatter = ChatFormatter.of(tokenizer, ChatTemplateArguments(file=CHATML), EMOTION_LABELS)
    dialogues, _ = read_dialogues(DatasetArguments(path=str(tiny.folder / "dialogues.jsonl")), EMOTION_LABELS)
    rows = tokenize_dialogues(dialogues[:2], formatter, None, "all").rows
    texts = [text for row in rows for text in split_replies(row)]
    model = transformers.AutoModelForCausalLM.from_pretrained(tiny.base, dtype=torch.float32)
    return -sum(completion_logps(model, texts, pad=0)) / sum(len(reply) for _, reply in texts)


@pytest.mark.parametrize("number", [0, 1], ids=["no checkpoints", "checkpoints"])
def test_shared_prompts_give_the_loss_metrics_and_gradients_of_trls_layout(number, on_gpu_code):
    layouts = on_gpu_code["layouts"][number]
    expected, found = layouts["plain"], layouts["shared prefix"]
    assert min(expected["pairs_per_second"], found["pairs_per_second"]) > 0  # both were timed first, and left no trace
    assert expected["kernel_calls"] == 0 and found["kernel_calls"] >= 4  # two layers, policy and reference
    assert expected["loss"] != pytest.approx(0.6931, abs=1e-3)  # policy and reference differ
    assert found["loss"] == pytest.approx(expected["loss"], abs=1e-4)
    assert found["metrics"] == pytest.approx(expected["metrics"], rel=1e-4, abs=1e-4)
    largest = max(map(abs, expected["gradients"]))
    assert found["gradients"] == pytest.approx(expected["gradients"], abs=1e-4 * max(1, largest))


def test_a_model_that_the_kernel_does_not_suit_is_told(on_gpu_code):
    found = on_gpu_code["kernel_obstacles"]
    assert found["none"] is None
    assert found["capped"] == "unsloth's kernel cannot cap the attention scores, as this model does"
    assert found["other code"] == "unsloth's code of LlamaModel does not take rows of this kind"


def test_a_run_with_shared_prompts_starts_at_the_loss_of_trls_layout(on_gpu_code):
    whole, shared = on_gpu_code["whole"], on_gpu_code["shared_prefix"]
    assert (whole["layout"], shared["layout"]) == ("TRL", "shared prefix")
    # Later steps would differ by more: in bf16, at a learning rate of 3e-3, rounding grows from step to step.
    assert shared["losses"][0] == pytest.approx(whole["losses"][0], abs=0.02)
    assert len(shared["losses"]) == 1


@pytest.mark.parametrize(
    ("sampled", "other"),
    [
        ("sampled", "whole"),
        ("sampled_checkpointed", "checkpointed"),
        ("tables_sampled", "tables"),
        ("sft_sampled", "sft"),
    ],
)
def test_training_is_the_same_with_sample_replies(sampled, other, on_gpu_code):
    assert on_gpu_code[sampled]["losses"] == on_gpu_code[other]["losses"]
    assert on_gpu_code[sampled]["adapter"] == on_gpu_code[other]["adapter"]
    steps = [row["step"] for row in on_gpu_code[sampled]["samples"] if row["model"] == "policy"]
    assert sorted(set(steps)) == list(range(on_gpu_code[sampled]["metrics"]["steps"] + 1))
    assert on_gpu_code[other]["samples"] == []


def test_sample_replies_are_those_of_the_adapters_in_an_evaluation(on_gpu_code):
    """Of policy and reference before the first step, and of the trained policy after the last one."""
    rows, expected = on_gpu_code["sampled_in_fp32"]["samples"], on_gpu_code["evaluated_samples"]
    assert [row["response"] for row in rows[:3]] == expected["policy"]
    assert [row["response"] for row in rows[3:6]] == expected["reference"]
    assert [row["response"] for row in rows[-3:]] == expected["trained"] != expected["policy"]


def test_embedding_tables_are_trained_in_fp32_and_start_another_run(on_gpu_code, published):
    for report in (on_gpu_code["tables"], on_gpu_code["tables_again"]):
        assert report["dtypes"] == ["torch.float32"]
        assert report["facts"]["dtype"] == "bfloat16"
        assert report["metrics"]["initial_loss"] == pytest.approx(0.6931, abs=1e-4)
        assert sum("modules_to_save" in name for name in report["trained"]) == 2
    assert on_gpu_code["tables"]["metrics"]["steps"] == 3


@pytest.fixture(scope="module")
def on_plain_transformers(contract_args, on_gpu_code) -> dict:
    """The evaluation's figures of `on_gpu_code`, by transformers and PEFT alone."""
    found = {}
    values = contract_args["evaluate"]
    tokenizer = transformers.AutoTokenizer.from_pretrained(values["base_model"])
    config = build_generation_config(values["generation"], tokenizer)
    for name, folder in (("adapter", values["adapter"]), ("baseline", values["baseline_adapter"])):
        base = transformers.AutoModelForCausalLM.from_pretrained(values["base_model"], dtype=torch.float32)
        model = peft.PeftModel.from_pretrained(base, folder).eval()
        model.generation_config = base.generation_config = config
        texts = on_gpu_code["evaluation"]["texts"]
        replies = []
        for prompt, _ in texts:
            whole = model.generate(input_ids=torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt)))
            replies.append(truncate_at_eos(whole[0, len(prompt) :].tolist(), tokenizer.eos_token_id))
        found[name] = {"logps": completion_logps(model, texts, tokenizer.pad_token_id), "replies": replies}
    return found


@pytest.mark.parametrize("name", ["adapter", "baseline"])
def test_each_of_two_adapters_says_what_it_says_under_plain_transformers(name, on_gpu_code, on_plain_transformers):
    ours, plain = on_gpu_code["evaluation"][name], on_plain_transformers[name]
    assert ours["logps"] == pytest.approx(plain["logps"], abs=0.01)
    assert ours["replies"] == plain["replies"]
    assert on_gpu_code["evaluation"]["adapter"]["logps"] != pytest.approx(
        on_gpu_code["evaluation"]["baseline"]["logps"], abs=1
    )


@pytest.mark.parametrize("name", ["adapter", "baseline"])
def test_continuous_batching_on_unsloths_forward_gives_the_replies_of_its_generate(name, on_gpu_code):
    report = on_gpu_code["evaluation"][name]
    assert report["decoded"]["replies"] == [[reply, reply] for reply in report["replies"]]  # both samples are greedy
    assert report["decoded"]["logps"] == pytest.approx(report["logps"], abs=0.01)
    assert report["agree"]


@pytest.mark.parametrize("name", ["adapter", "baseline"])
def test_completions_of_a_pair_share_their_prompt_on_unsloths_forward(name, on_gpu_code):
    report = on_gpu_code["evaluation"][name]
    assert sum(report["pairs"], []) == pytest.approx(sum(report["pairs_apart"], []), abs=0.01)


def test_the_fused_kernels_compute_what_plain_transformers_does(on_gpu_code, on_plain_transformers):
    assert on_gpu_code["fused_logps"] == pytest.approx(on_plain_transformers["adapter"]["logps"], abs=0.01)


def test_the_attention_that_runs_is_recorded(on_gpu_code):
    # unsloth takes what is installed, whatever the args name.
    assert on_gpu_code["whole"]["facts"]["attention"] == on_gpu_code["evaluation"]["facts"]["attention"] == "sdpa"
    assert "attn_implementation: flash_attention_2 needs a CUDA device; using sdpa" in on_gpu_code["printed"]
    told = "attn_implementation: unsloth does not take sdpa for this model; using flash_attention_2"
    assert told in on_gpu_code["printed"]
    assert on_gpu_code["flash"]["facts"]["attention"] == "flash_attention_2"
    assert on_gpu_code["flash"]["calls"] == 2  # in each layer


def test_the_gpu_loader_takes_what_we_give_it(on_gpu_code):
    signatures = on_gpu_code["signatures"]
    published = json.loads((ROOT / "args" / "dpo_arg.json").read_text(encoding="utf-8"))["from_pretrained"]
    passed_on = {
        "attn_implementation",
        "pretraining_tp",
        "use_cache",
        "low_cpu_mem_usage",
    }  # to transformers, through **kwargs
    assert set(published) - passed_on <= set(signatures["from_pretrained"])
    assert signatures["from_pretrained"][0] == "model_name" and "kwargs" in signatures["from_pretrained"]
    assert signatures["patch_peft_model"][:2] == ["model", "use_gradient_checkpointing"]
    assert signatures["for_inference"][0] == "model"
