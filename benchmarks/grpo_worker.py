"""GRPO of benchmarks/grpo.py, in a process of its own: its time includes loading, as that of the other ways does.

    python benchmarks/grpo_worker.py '{"output_dir": "runs/grpo", "minutes": 2, "learning_rate": 2e-4, "limit": 16}'

TRL's trainer goes on from the demo's SFT adapter, on the prompts, the settings of sampling and the reward of
args/demo/preference_arg.json, with the loading of args/demo/dpo_arg.json. Its replies are written by this program's own
generation, as those of the pairs are: otherwise most of its minutes would go to a slower one. As ever in TRL, the loss
knows of these settings the temperature alone, not top_k and repetition_penalty. Writes adapter/ and grpo.json, the log
of all steps.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

from response_generator.config.args_file import ArgsFile
from response_generator.config.preference_schema import PreferenceDataArguments
from response_generator.config.training_schema import DPOArguments
from response_generator.config.validation import validate_arguments
from response_generator.data.reading import read_dialogues
from response_generator.modeling.backend import import_backend

STARTED = time.monotonic()
DEMO_ARGS = Path(__file__).parent.parent / "args" / "demo"
PROMPTS_PER_STEP = 8  # as many as pairs in a step of DPO
PROMPTS_AT_ONCE = 4  # in a forward and backward pass
MAX_STEPS = 100_000  # the time ends training


def main(measurement: dict) -> None:
    args = read_arguments(PreferenceDataArguments, "preference_arg.json", {"output_dir": measurement["output_dir"]})
    loading_args = read_arguments(DPOArguments, "dpo_arg.json", {"output_dir": measurement["output_dir"]})
    dialogues, _ = read_dialogues(args.dataset.model_copy(update={"limit": measurement.get("limit")}), args.label_set)
    import_backend(args.backend)
    from response_generator.preferences.preparation import prepare_building
    from response_generator.preferences.windows import cut_windows

    prepared = prepare_building(args, cut_windows(dialogues, args)[0])
    log = train(args, loading_args, prepared, measurement)
    minutes = (time.monotonic() - STARTED) / 60
    results = measurement | {"minutes_taken": minutes, "steps": len(log)}
    results |= {"replies": len(log) * PROMPTS_PER_STEP * args.candidates, "log": log}
    Path(measurement["output_dir"], "grpo.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


def read_arguments(arguments: type, name: str, changes: dict) -> PreferenceDataArguments | DPOArguments:
    values = ArgsFile.read(DEMO_ARGS / name).values | changes
    return validate_arguments(arguments, values, str(DEMO_ARGS / name))


def train(args: PreferenceDataArguments, loading_args: DPOArguments, prepared, measurement: dict) -> list[dict]:
    """Trains for the minutes of the measurement, writes the adapter, and returns TRL's log of each step."""
    from datasets import Dataset
    from trl import GRPOTrainer

    from response_generator.modeling import loading
    from response_generator.training import run_training, trainer_setup

    def count_share() -> float:
        """The share of the time that has passed."""
        return (time.monotonic() - STARTED) / (60 * measurement["minutes"])

    requests = {request.prompt: request for request in prepared.requests}
    policy = loading.load_policy(loading_args, prepared.adapter)
    weights = trainer_setup.copy_trained_weights(policy)
    trainer = GRPOTrainer(
        policy,
        build_reward(args, prepared),
        build_config(args, measurement),
        train_dataset=Dataset.from_list(
            [{"prompt": each.prompt, "target": each.dialogue.target_emotion} for each in requests.values()]
        ),
        processing_class=prepared.tokenizer,
        rollout_func=build_sampler(args, prepared, requests),
    )
    trainer_setup.restore_fp32_adapters(policy, weights)
    let_time_end(trainer, count_share)
    trainer.train()
    run_training.save_adapter(policy, prepared.tokenizer, Path(measurement["output_dir"], "adapter"))
    return [entry for entry in trainer.state.log_history if "loss" in entry]


def build_config(args: PreferenceDataArguments, measurement: dict):
    """TRL's defaults, but for what the pairs and DPO of the demo have, too."""
    from trl import GRPOConfig

    from response_generator.modeling.precision import has_native_bf16

    return GRPOConfig(
        output_dir=measurement["output_dir"],
        seed=args.seed,
        learning_rate=measurement["learning_rate"],
        optim="adamw_torch",
        num_generations=args.candidates,
        per_device_train_batch_size=PROMPTS_AT_ONCE * args.candidates,
        gradient_accumulation_steps=PROMPTS_PER_STEP // PROMPTS_AT_ONCE,
        max_completion_length=args.generation["max_new_tokens"],
        temperature=args.generation["temperature"],
        gradient_checkpointing=False,
        max_steps=MAX_STEPS,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
        bf16=has_native_bf16(),
    )


def build_reward(args: PreferenceDataArguments, prepared) -> Callable[..., list[float | None]]:
    """The reward of the pairs' candidates."""
    from response_generator.generation.generation_requests import decode_reply
    from response_generator.preferences.candidate_scorer import CandidateScorer
    from response_generator.scoring.classifiers import classify
    from response_generator.scoring.reward import compute_reward

    scorer = CandidateScorer(args, prepared.prompts)

    def reward(completion_ids: list[list[int]], target: list[str], **others) -> list[float | None]:
        """None, which TRL leaves out, for an empty reply: the pair builder leaves it out, too."""
        texts = [decode_reply(tokens, prepared.tokenizer) for tokens in completion_ids]
        labels = zip(classify(scorer.emotions, texts), classify(scorer.gibberish, texts), strict=True)
        return [
            compute_reward(text, *found, label, args.reward, scorer.penalized) if text else None
            for text, found, label in zip(texts, labels, target, strict=True)
        ]

    return reward


def build_sampler(args: PreferenceDataArguments, prepared, requests: dict) -> Callable[..., dict]:
    """Samples as the pair builder does: the same tokens of a prompt, the same settings, and a prompt computed once.

    Args:
        requests: by their prompts.
    """
    from response_generator.generation.continuous_batching import write_replies
    from response_generator.generation.generation_requests import BatchLimit, SamplingParams
    from response_generator.modeling.cpu_inference import fast_cpu_inference

    limit = BatchLimit(PROMPTS_PER_STEP * args.candidates)

    def sample(prompts: list[str], trainer) -> dict:
        """TRL repeats each prompt for each of its replies, one after the other, and takes them back in this order."""
        asked = [requests[prompt] for prompt in prompts[:: args.candidates]]
        first_sample = trainer.state.global_step * args.candidates  # other random numbers than in earlier epochs
        params = SamplingParams(prepared.generation_config, args.seed, args.candidates, first_sample)
        model = trainer.accelerator.unwrap_model(trainer.model)
        model.eval()
        # Not the PeftModel: accelerate lets its forward convert all outputs, the KV cache included, to float32.
        with fast_cpu_inference(model), trainer.accelerator.autocast():
            longest_first = sorted(asked, key=lambda request: -request.length)
            replies = write_replies(model.get_base_model(), longest_first, params, limit)
            samples = {each.request.key: each.samples for each in replies}
        model.train()
        return {
            "prompt_ids": [request.prompt_ids for request in asked for _ in range(args.candidates)],
            "completion_ids": [tokens for request in asked for tokens in samples[request.key]],
            "logprobs": None,  # those of the policy before the step, which TRL computes itself
        }

    return sample


def let_time_end(trainer, count_share: Callable[[], float]) -> None:
    """The learning rate falls linearly with the time, as that of DPO does with its steps, and training ends with it."""
    from torch.optim.lr_scheduler import LambdaLR
    from transformers import PrinterCallback, TrainerCallback

    class Clock(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            control.should_training_stop = count_share() >= 1

        def on_log(self, args, state, control, logs, **kwargs):
            if "loss" in logs:
                minutes = (time.monotonic() - STARTED) / 60
                print(f"step {state.global_step}, {minutes:.1f} min: reward {logs['reward']:.3f}", flush=True)

    trainer.create_optimizer()
    trainer.lr_scheduler = LambdaLR(trainer.optimizer, lambda step: max(0.0, 1 - count_share()))
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(Clock())


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
