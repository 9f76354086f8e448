"""Trains the demo's SFT adapter: a LoRA on the replies of the train dialogues, with the demo's chat template.

    python -m response_generator.demo.sft FOLDER

writes the files that are in response_generator/demo/sft_adapter.
"""

import sys
from pathlib import Path

from response_generator.config import strict_json
from response_generator.config.schema import DatasetArguments
from response_generator.config.training_schema import DPOArguments
from response_generator.config.validation import validate_arguments
from response_generator.data.datasets import Dialogue, read_dialogues
from response_generator.modeling.backend import import_backend

DPO_ARGS = Path("args/demo/dpo_arg.json")  # for base model, loader and chat template
TRAIN_DIALOGUES = DatasetArguments(path="response_generator/demo/data/dialogues_train.jsonl")
LORA_SETTINGS = {
    "r": 16,
    "lora_alpha": 32,
    "lora_dropout": 0.0,
    "layers_to_transform": list(range(15, 30)),  # the upper half: less backward work and a small file
    "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
    "task_type": "CAUSAL_LM",
}
SFT_SETTINGS = {
    "num_train_epochs": 3,
    "per_device_train_batch_size": 8,
    "learning_rate": 5e-4,
    "lr_scheduler_type": "linear",
    "warmup_steps": 0.05,
    "max_length": None,
    "gradient_checkpointing": False,
    "dataset_kwargs": {"skip_prepare_dataset": True},  # the rows are already tokenized
    "save_strategy": "no",
    "logging_steps": 10,
    "report_to": [],
}


def main(folder: Path) -> None:
    args = validate_arguments(DPOArguments, strict_json.read_object(DPO_ARGS), str(DPO_ARGS))
    dialogues, _ = read_dialogues(TRAIN_DIALOGUES)

    import_backend(args.backend)  # unsloth has to be imported before transformers, trl and peft
    import torch
    from datasets import Dataset
    from peft import LoraConfig, get_peft_model
    from transformers import set_seed
    from trl import SFTConfig, SFTTrainer

    from response_generator.data.chat_template import ChatFormatter
    from response_generator.modeling import loading
    from response_generator.modeling.precision import has_native_bf16
    from response_generator.modeling.tokenizer import load_tokenizer

    set_seed(args.seed)
    tokenizer = load_tokenizer(args, adapter=None)
    formatter = ChatFormatter.of(tokenizer, args.chat_template)
    policy = get_peft_model(loading.load_base(args), LoraConfig(**LORA_SETTINGS))
    trainer = SFTTrainer(
        model=policy,
        args=SFTConfig(
            output_dir=str(folder),
            seed=args.seed,
            use_cpu=not torch.cuda.is_available(),
            bf16=has_native_bf16(),
            **SFT_SETTINGS,
        ),
        train_dataset=Dataset.from_list([tokenize_dialogue(dialogue, formatter) for dialogue in dialogues]),
        processing_class=tokenizer,
    )
    cast_adapter(policy, torch.float32)  # TRL casts it to bf16, in which small steps round to nothing
    trainer.train()
    cast_adapter(policy, torch.bfloat16)  # half the file size; loading casts it to fp32 again
    policy.save_pretrained(folder)
    (folder / "README.md").unlink()  # PEFT's template; docs/demo.md describes the adapter


def cast_adapter(policy, dtype) -> None:
    for weight in policy.parameters():
        if weight.requires_grad:
            weight.data = weight.data.to(dtype)


def tokenize_dialogue(dialogue: Dialogue, formatter) -> dict[str, list[int]]:
    """`input_ids` and `labels` of one dialogue; the loss is on the reply and its EOS only."""
    from response_generator.generation.sampling import GenerationRequest

    request = GenerationRequest.of(dialogue, formatter)
    labels = [-100] * request.length + request.gold_ids
    return {"input_ids": request.prompt_ids + request.gold_ids, "labels": labels}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
