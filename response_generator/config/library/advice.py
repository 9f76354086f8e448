"""What is known of the keys that people tune, and which keys the original recipe has. `explain` prints it."""

from typing import NamedTuple

UNSLOTH = "unsloth's guide to LoRA hyperparameters"
REAL_DIALOGUES = "docs/results.md, real dialogues"


class Advice(NamedTuple):
    """start: values to try first. reason: what a smaller or a larger value does. source: of both."""

    start: str
    reason: str
    source: str


EPOCHS = Advice(
    "1 to 3", "More epochs learn the rows by heart: the held-out loss rises while the training loss falls.", UNSLOTH
)
ACCUMULATION = Advice(
    "1; more where memory is short",
    "N times as many with a per_device_train_batch_size of one Nth is the same batch in less memory and more time.",
    "transformers' TrainingArguments",
)
WARMUP = Advice(
    "0 to 0.1",
    "A value below 1 is a share of all steps. A warmup keeps the first steps, with the highest learning rate, small.",
    f"{UNSLOTH}: 5 to 10 % of the steps",
)
MAX_LENGTH = Advice(
    "the length of your longest rows",
    "Memory grows with it; longer rows are cut or left out. --dry_run shows the lengths and how many that concerns.",
    "docs/training.md",
)
ADVICE = {
    "dpo.beta": Advice(
        "0.1 to 0.5; 2 to 5 with the loss sigmoid_norm",
        "A smaller value lets the adapter move further from the reference, a larger one holds it there.",
        "torchtune's DPOLoss; rlhf-book, issue 400, for sigmoid_norm",
    ),
    "dpo.learning_rate": Advice(
        "5e-6 to 5e-5; up to 2e-4 for a small model with the SFT loss added",
        "Too low, and the reward accuracy stays near 50 %. Too high, and the log-probability of the chosen replies "
        "falls together with that of the rejected ones.",
        f"{UNSLOTH}: 5e-6 for DPO; {REAL_DIALOGUES}: 2e-4 with SmolLM2-135M",
    ),
    "dpo.loss_type": Advice(
        '["sigmoid"], or ["sigmoid", "sft"] where replies grow too long',
        "The loss sigmoid sums log-probabilities over tokens, so it learns to write on if the chosen replies are the "
        "longer ones. The SFT loss of the chosen reply holds length and wording.",
        REAL_DIALOGUES,
    ),
    "dpo.loss_weights": Advice(
        '[1.0, 0.2] to [1.0, 1.0] with loss_type ["sigmoid", "sft"]',
        "With 1.0 for the SFT loss instead of 0.2 the emotion was followed about as often, and length and perplexity "
        "of gold replies were better. It takes the place of rpo_alpha of earlier versions of TRL.",
        REAL_DIALOGUES,
    ),
    "dpo.label_smoothing": Advice(
        "0; 0.1 with the loss robust, 0.001 with exo_pair",
        "In the loss robust it is the share of pairs whose label is taken to be wrong.",
        "TRL's DPOConfig",
    ),
    "dpo.num_train_epochs": Advice(
        EPOCHS.start,
        f"{EPOCHS.reason} On real dialogues, one epoch at 2e-4 with the SFT loss was better than three at 5e-5 "
        "without it.",
        f"{UNSLOTH}; {REAL_DIALOGUES}",
    ),
    "dpo.per_device_train_batch_size": Advice(
        "8, or what fits into memory",
        "Pairs of one step on one device: with gradient_accumulation_steps and the number of processes it is the batch "
        "of an optimizer step. Memory grows with it; --dry_run estimates how much.",
        "docs/recipes.md",
    ),
    "dpo.gradient_accumulation_steps": ACCUMULATION,
    "dpo.max_length": MAX_LENGTH,
    "dpo.warmup_steps": WARMUP,
    "sft.learning_rate": Advice(
        "1e-4 to 5e-4 for a LoRA",
        "Too low, and the training loss hardly falls. Too high, and the training becomes unstable, or overfits early.",
        f"{UNSLOTH}: 2e-4 to start with; {REAL_DIALOGUES}: 5e-4 with SmolLM2-135M",
    ),
    "sft.num_train_epochs": EPOCHS,
    "sft.per_device_train_batch_size": Advice(
        "8, or what fits into memory",
        "Dialogues of one step on one device. Memory grows with it; lower it and raise gradient_accumulation_steps if "
        "memory runs out.",
        "docs/recipes.md",
    ),
    "sft.gradient_accumulation_steps": ACCUMULATION,
    "sft.max_length": MAX_LENGTH,
    "sft.warmup_steps": WARMUP,
    "lora.r": Advice(
        "8 to 64",
        "A higher rank can learn more, needs more memory and overfits sooner.",
        f"{UNSLOTH}: 8, 16, 32, 64 or 128",
    ),
    "lora.lora_alpha": Advice(
        "r to 2 r",
        "The adapter's part is scaled by lora_alpha / r, or by lora_alpha / sqrt(r) with use_rslora: a larger value "
        "has the effect of a higher learning rate.",
        f"{UNSLOTH}; PEFT's LoraConfig",
    ),
    "lora.lora_dropout": Advice(
        "0 to 0.1",
        "It works against overfitting of few rows.",
        "PEFT's default is 0; the published adapter of the original recipe has 0.1",
    ),
    "generation.temperature": Advice(
        "1.0 to evaluate, 1.2 to sample pairs",
        "Below 1 likely tokens become likelier, above 1 unlikely ones. The candidates of a pair have to differ.",
        "transformers' GenerationConfig; args/daily_dialog",
    ),
    "generation.top_p": Advice(
        "0.9 to evaluate, 1.0 to sample pairs",
        "Only the most probable tokens whose probabilities add up to it are sampled; 1.0 leaves out none.",
        "transformers' GenerationConfig; args/daily_dialog",
    ),
    "generation.top_k": Advice(
        "3 to evaluate, 5 to sample pairs; the library's own is 50",
        "Only so many of the most probable tokens are sampled: few keep to what is likely, more give more variety.",
        "transformers' GenerationConfig; args/daily_dialog",
    ),
    "generation.repetition_penalty": Advice(
        "1.0 to 1.2",
        "1.0 is none. A higher value makes tokens that occurred already less likely, also those that have to occur "
        "again.",
        "the paper that proposes it, arXiv 1909.05858, uses 1.2",
    ),
    "generation.min_new_tokens": Advice(
        "0 to 5", "It prevents empty and one-word replies, and short answers with them.", "args/evaluate_arg.json"
    ),
    "generation.max_new_tokens": Advice(
        "150 to evaluate, 40 to sample pairs of short replies",
        "A reply that reaches it is cut off in the middle of a sentence; the metric hit_max_new_tokens counts these.",
        "args/daily_dialog",
    ),
    "samples_per_prompt": Advice(
        "1 to 4",
        "More replies to each prompt make the intervals narrower, but less than as many more prompts do; the time "
        "grows in proportion.",
        "docs/evaluation.md: the bootstrap draws prompts",
    ),
    "candidates": Advice(
        "6; more where many prompts have no pair",
        "The best and the worst of more replies lie further apart, so more prompts have a pair; each costs time.",
        "docs/preferences.md",
    ),
    "max_attempts": Advice(
        "6 to 30",
        "Each attempt samples `candidates` replies again. With 6 of them 94 % of the prompts had a pair, after 1.89 "
        "attempts on average.",
        REAL_DIALOGUES,
    ),
    "filters.min_margin": Advice(
        "3 to 4 with the default reward",
        "A higher value gives clearer and fewer pairs. With 3 it was what attempts failed most often, and the median "
        "margin became 5.",
        REAL_DIALOGUES,
    ),
    "reward.emotion_weight": Advice(
        "0.4", "A larger weight prefers replies with the target label to fitting and clean ones.", "docs/preferences.md"
    ),
    "reward.length_weight": Advice(
        "0.02, or 0 where length does not matter",
        "With 0.25 a reply of 20 to 39 characters nearly always wins, whatever its labels are.",
        "docs/preferences.md",
    ),
    "reward.gibberish_weight": Advice(
        "0.35", "A larger weight prefers clean replies to those with the target label.", "docs/preferences.md"
    ),
}

# Keys that the original recipe itself sets, by the args file of ours that has its values. All other keys are this
# program's own, or stand there with the library's default.
ORIGINAL_KEYS = {
    "dpo_arg.json": {
        *("output_dir", "base_model", "adapter", "dataset.path"),
        *("dpo.beta", "dpo.num_train_epochs", "dpo.gradient_checkpointing", "dpo.remove_unused_columns"),
        *("from_pretrained.attn_implementation", "from_pretrained.pretraining_tp", "from_pretrained.load_in_4bit"),
        *("from_pretrained.use_cache", "from_pretrained.device_map", "from_pretrained.low_cpu_mem_usage"),
        "from_pretrained.use_gradient_checkpointing",
    },
    "evaluate_arg.json": {
        *("dataset.path", "dataset.split", "dataset.num_proc"),
        *("generation.max_new_tokens", "generation.min_new_tokens", "generation.repetition_penalty"),
        *("generation.top_k", "generation.top_p", "generation.temperature", "generation.do_sample"),
        "generation.num_beams",
    },
}
