"""The model card of a trained adapter: what it is for, its result, limits, data and settings, and how to load it."""

import shutil
from pathlib import Path
from typing import Any

from response_generator.config.sources import find_hub_revision, is_local, strip_local_folders
from response_generator.data.datasets import Message, make_content
from response_generator.data.prompt_tokens import PROBE_REPLY
from response_generator.modeling.adapter_file import AdapterFile
from response_generator.reporting.markdown import Markdown, format_source, format_table, format_value
from response_generator.training.training_method import TrainingMethod

SAMPLE_TEXT = "I lost my keys again ."
INTENDED_USE = (
    "Replies in dialogues like those that it was trained on: in their language, of their length, with their labels. "
    "Not for advice, and not for decisions about people. Who reads its replies should know that a model wrote them."
)
LIMITS = (
    "- It can write what is false or hurtful, as its base model can. Nothing filters its replies.\n"
    "- The figures above are of the training. Whether its replies are better than those of the adapter that it started "
    "from, an evaluation on dialogues that it was not trained on has to show.\n"
    "- If a classifier chose its preference pairs, it learned what that classifier likes, errors included."
)
LICENSE = (
    "None is chosen here. The terms of the base model and of the data hold for this adapter too. Whoever publishes it "
    "writes the license into this section, and as `license` into the head of this file. NOTICE of the program names "
    "the terms of the models and corpora in its args files; Llama 3.1, for example, asks for a name that begins with "
    "Llama."
)


def write_model_card(
    method: TrainingMethod, folder: Path, arguments: dict[str, Any], figures: dict[str, str], rows: int, picture: Path
) -> None:
    """Writes README.md, with the metadata that the hub reads, and the curves into the adapter's folder.

    Args:
        figures: `{title: value}` of the run's metrics.
        rows: the number of rows that were trained on.
    """
    shutil.copy(picture, folder / picture.name)
    section = method.name.lower()
    start = format_source(arguments["adapter"]) if arguments["adapter"] else "a new LoRA"
    # The hub accepts only hub ids as base_model, no folders.
    repository = find_hub_revision(arguments["base_model"])[0]
    base = "" if is_local(repository) else f"base_model: {repository}\n"
    dataset, held_out, labels = arguments["dataset"], arguments["eval_dataset"], arguments["labels"]
    data = {
        method.unit: Markdown(f"{rows} of {name_split(dataset)}"),
        "held out": name_split(held_out) if held_out else "none",
        "base": Markdown(f"{format_source(arguments['base_model'])}, {format_value(arguments['from_pretrained'])}"),
        "seed": arguments["seed"],
    }
    if "reference_adapter" in arguments:
        reference = arguments["reference_adapter"]
        data["reference"] = format_source(reference) if reference else "a frozen copy of what training started from"
    target = f", with the wanted label, {' or '.join(map(format_value, labels))}, as `target_emotion`" if labels else ""
    card = (
        f"---\n{base}library_name: peft\npipeline_tag: text-generation\n"
        f"tags: [{section}, lora, trl]\n---\n"
        f"# Response generator, {method.headline}\n\n"
        f"LoRA adapter, trained from {start}. Prompts are written by the chat template of this folder's tokenizer"
        f"{target}.\n\n"
        f"## Intended use\n\n{INTENDED_USE}\n\n"
        f"## Use\n\n```python\n{write_usage(folder, arguments)}```\n\n"
        f"## Result\n\n{format_table(figures)}\n![curves of the training run]({picture.name})\n\n"
        f"## Limits\n\n{LIMITS}\n\n"
        f"## Data and model\n\n{format_table(data)}\n"
        f"## License\n\n{LICENSE}\n\n"
        f"## {method.name}\n\n{format_table(arguments[section])}"
    )
    (folder / "README.md").write_text(card, encoding="utf-8")


def name_split(dataset: dict[str, Any]) -> Markdown:
    return Markdown(f"{format_source(dataset['path'])}, split {format_value(dataset['split'])}")


def build_sample(labels: list[str]) -> tuple[Message, str | None]:
    """A message with the first of the labels, and the last one as the target of its reply; None without labels."""
    label, target = (labels[0], labels[-1]) if labels else (None, None)
    return {"role": "user", "content": make_content(label, SAMPLE_TEXT)}, target


def write_usage(folder: Path, arguments: dict[str, Any]) -> str:
    """Python code that loads base and adapter with transformers and PEFT, and writes a reply."""
    adapter = (arguments["push_to_hub"] or {}).get("repo_id") or "adapter"
    base, revision = find_hub_revision(arguments["base_model"])
    keywords = f", revision={revision!r}" if revision else ""
    rows = AdapterFile.read(folder).embedding_rows
    # A tokenizer with added tokens needs a base with as many embeddings; the adapter holds them.
    resize = f"model.resize_token_embeddings({rows}, mean_resizing=False)\n" if rows else ""
    system_prompt = arguments["chat_template"]["system_prompt"]
    system = [{"role": "system", "content": system_prompt}] if system_prompt else []
    message, target = build_sample(arguments["labels"])
    keyword = f"target_emotion={target!r}, " if target else ""
    return (
        "import os\n\n"
        "import torch\n"
        "from peft import PeftModel\n"
        "from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast\n\n"
        f"adapter = {adapter!r}  # this {'repository' if '/' in adapter else 'folder'}\n"
        f"base = {strip_local_folders(base)!r}{'  # the folder of the base model' if is_local(base) else ''}\n"
        "tokenizer = PreTrainedTokenizerFast.from_pretrained(adapter)\n"
        f'model = AutoModelForCausalLM.from_pretrained(base, dtype="auto"{keywords})\n'
        f"{resize}"
        "model = PeftModel.from_pretrained(model, adapter).eval()\n\n"
        f"messages = {[*system, message]!r}\n"
        "prompt = tokenizer.apply_chat_template(\n"
        f"    messages, {keyword}add_generation_prompt=True, tokenize=False\n"
        ")\n"
        "# As in training, the prompt ends with the last token that stays the same when a reply follows.\n"
        f'texts = [prompt, prompt + "{PROBE_REPLY}"]\n'
        'prompt_ids = os.path.commonprefix(tokenizer(texts, add_special_tokens=False)["input_ids"])\n'
        "ids = torch.tensor([prompt_ids], device=model.device)\n"
        "output = model.generate(\n"
        "    input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=60,\n"
        "    pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id,\n"
        ")\n"
        "print(tokenizer.decode(output[0, len(prompt_ids) :], skip_special_tokens=True))\n"
    )
