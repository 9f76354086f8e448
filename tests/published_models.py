"""Tiny models of the published adapter's build: a Llama tokenizer as transformers of 2024 saved it, five tokens more,
and an adapter that brings both embedding tables."""

import json
from pathlib import Path

from tiny_models import demo_rows

MARKERS = ["[INST]", "[/INST]", "[EMOTION]", "[/EMOTION]"]
SPECIAL_TOKENS = {"pad_token": "<pad>", "additional_special_tokens": MARKERS}
VOCABULARY = 500  # of the base; the adapter's tokenizer has five more
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def write_llama_tokenizer(folder: Path, added: list[str]) -> None:
    """BPE on text with "▁" for its spaces and one before it, as `tokenizer.json` of Llama 2 has it."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    words = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True))
    words.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    words.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(content=" ", left=1, right=0)]
    )
    words.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")  # for training alone: no token of two words
    texts = [turn["content"]["dialog"] for row in demo_rows("dialogues_train", 100) for turn in row["prompt"]]
    alphabet = sorted({*"".join(texts), "▁", "\n"} - {" "})
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - 1,
        special_tokens=["<unk>", "<s>", "</s>"],
        initial_alphabet=alphabet,
        show_progress=False,
    )
    words.train_from_iterator(texts, trainer)
    written = json.loads(words.to_str())
    written["pre_tokenizer"] = None
    # The space at a prompt's end: alone it is one token with the "▁" before it, before a word it is not.
    written["model"]["vocab"]["▁▁"] = len(written["model"]["vocab"])
    written["model"]["merges"].append(["▁", "▁"])
    words = Tokenizer.from_str(json.dumps(written))
    assert words.get_vocab_size() == VOCABULARY
    words.add_special_tokens(added)
    folder.mkdir(exist_ok=True)
    words.save(str(folder / "tokenizer.json"))
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
    """An adapter with both tables: in fp32 and once each, as unsloth leaves them; or, with `copies`, in bf16 and three
    times, as PEFT saves a resized vocabulary."""
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
            weight.data += 0.01 * torch.randn_like(weight)  # no number of 16 bits
    model.save_pretrained(folder, save_embedding_layers=copies)
    if copies:
        file = folder / "adapter_model.safetensors"
        tensors = load_file(file)
        save_file({name: t if ".lora_" in name else t.bfloat16() for name, t in tensors.items()}, file)
