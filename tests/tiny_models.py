"""Writes tiny random models for the tests (Llama, LoRA adapter, BERT classifiers), and reads rows of the demo data."""

import json
from pathlib import Path

from response_generator.labels import DAILY_DIALOG_EMOTIONS, Labels

EMOTION_LABELS = Labels(DAILY_DIALOG_EMOTIONS, "neutral")
ROOT = Path(__file__).parent.parent
DEMO_DATA = ROOT / "response_generator" / "demo" / "data"
SPECIAL_TOKENS = ["<pad>", "<s>", "</s>", "<|im_start|>", "<|im_end|>", "[INST]", "[/INST]", "[EMOTION]", "[/EMOTION]"]


def demo_rows(name: str, count: int) -> list[dict]:
    with open(DEMO_DATA / f"{name}.jsonl", encoding="utf-8") as file:
        return [json.loads(line) for _, line in zip(range(count), file, strict=False)]


def write_tiny_tokenizer(folder: Path, special_tokens: list[str], **named: str):
    """Writes a byte-level BPE tokenizer of 600 tokens. `named`: bos_token, eos_token, pad_token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    texts = [turn["content"]["dialog"] for row in demo_rows("dialogues_train", 100) for turn in row["prompt"]]
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=special_tokens,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, **named)
    tokenizer.save_pretrained(folder)
    return tokenizer


def write_tiny_base(folder: Path, hidden: int = 64, special_tokens: list[str] = SPECIAL_TOKENS) -> None:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    named = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "pad_token": "<pad>"}
    tokenizer = write_tiny_tokenizer(folder, special_tokens, **named)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=False,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.3,  # large enough that the model prefers some tokens clearly
    )
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)


def write_tiny_adapter(base: Path, folder: Path, seed: int = 1, **lora) -> None:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    lora = {"r": 4, "target_modules": ["q_proj", "v_proj", "down_proj"], "init_lora_weights": False} | lora
    config = LoraConfig(task_type="CAUSAL_LM", **lora)
    get_peft_model(AutoModelForCausalLM.from_pretrained(base), config).save_pretrained(folder)


def write_tiny_classifier(folder: Path, tokenizer_folder: Path, labels: tuple[str, ...]) -> None:
    import torch
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    torch.manual_seed(2)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        id2label=dict(enumerate(labels)),
        label2id={label: number for number, label in enumerate(labels)},
    )
    BertForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
