"""Writes tiny models built like the published ones: a Llama tokenizer as saved by transformers in 2024, and an adapter
with five added tokens and both embedding matrices."""

import json
from pathlib import Path

from tiny_models import demo_rows

MARKERS = ["[INST]", "[/INST]", "[EMOTION]", "[/EMOTION]"]
SPECIAL_TOKENS = {"pad_token": "<pad>", "additional_special_tokens": MARKERS}
VOCABULARY = 500  # tokens of the base model; the tokenizer of the adapter has five more
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def write_llama_tokenizer(folder: Path, added: list[str]) -> None:
    """Writes a BPE tokenizer that replaces spaces with "▁" and adds one before the text, as that of Llama 2 does."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    bpe = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True))
    bpe.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    bpe.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(content=" ", left=1, right=0)]
    )
    bpe.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")  # only for training: no token spans two words
    texts = [turn["content"]["dialog"] for row in demo_rows("dialogues_train", 100) for turn in row["prompt"]]
    alphabet = sorted({*"".join(texts), "▁", "\n"} - {" "})
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - 1,
        special_tokens=["<unk>", "<s>", "</s>"],
        initial_alphabet=alphabet,
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    written = json.loads(bpe.to_str())
    written["pre_tokenizer"] = None
    # A token for the space at the end of a prompt and the added "▁". It does not occur before a word.
    written["model"]["vocab"]["▁▁"] = len(written["model"]["vocab"])
    written["model"]["merges"].append(["▁", "▁"])
    bpe = Tokenizer.from_str(json.dumps(written))
    assert bpe.get_vocab_size() == VOCABULARY
    bpe.add_special_tokens(added)
    folder.mkdir(exist_ok=True)
    bpe.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "LlamaTokenizer",
        "legacy": False,
        "add_bos_token": True,
        "add_eos_token": False,
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "clean_up_tokenization_spaces": True,
        "model_max_length": 4096,
    }
    config |= {"pad_token": "<pad>", "additional_special_tokens": MARKERS} if added else {}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")


def write_published_tokenizer(folder: Path):
    """Writes the tokenizer of the published adapter, and returns it as it was trained with."""
    from transformers import PreTrainedTokenizerFast

    write_llama_tokenizer(folder, added=["<pad>", *MARKERS])
    return PreTrainedTokenizerFast.from_pretrained(folder)


def write_published_base(folder: Path) -> None:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    write_llama_tokenizer(folder, added=[])
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        initializer_range=0.1,
    )
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)


def write_published_adapter(base: Path, folder: Path, copies: bool) -> None:
    """Writes an adapter with both embedding matrices: each once in fp32, as unsloth saves them, or, with `copies`, each
    three times in bf16, as PEFT saves them after resizing the vocabulary."""
    import torch
    from peft import LoraConfig, get_peft_model
    from safetensors.torch import load_file, save_file
    from transformers import AutoModelForCausalLM

    write_llama_tokenizer(folder, added=["<pad>", *MARKERS])
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    model.resize_token_embeddings(VOCABULARY + 1 + len(MARKERS))
    lora = LoraConfig(
        task_type="CAUSAL_LM",
        r=4,
        lora_alpha=4,
        lora_dropout=0.1,
        use_rslora=True,
        init_lora_weights=False,
        target_modules=TARGETS,
        modules_to_save=["lm_head", "embed_tokens"],
    )
    model = get_peft_model(model, lora)
    for name, weight in model.named_parameters():
        if "modules_to_save" in name:
            weight.data += 0.01 * torch.randn_like(weight)  # a value that bf16 would round
    model.save_pretrained(folder, save_embedding_layers=copies)
    if copies:
        file = folder / "adapter_model.safetensors"
        tensors = load_file(file)
        save_file({name: tensor if ".lora_" in name else tensor.bfloat16() for name, tensor in tensors.items()}, file)
