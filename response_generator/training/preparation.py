"""What is known of a training run before the base model is loaded: settings, adapters, tokenizer and tokenized rows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase
from trl import DPOConfig, SFTConfig

from response_generator.config.training_schema import AdapterTrainingArguments, DPOArguments, SFTArguments
from response_generator.data.chat_template import ChatFormatter
from response_generator.data.datasets import Dialogue, Pair
from response_generator.data.dialogue_tokenization import TokenizedDialogues, tokenize_dialogues
from response_generator.data.pair_tokenization import TokenizedPairs, TokenizedRows, tokenize_pairs
from response_generator.generation.generation_requests import GenerationRequest
from response_generator.modeling import inference, loading, merged_model
from response_generator.modeling.adapter_file import AdapterFile
from response_generator.modeling.tokenizer import load_tokenizer
from response_generator.runs.run_folder import RunFolder
from response_generator.training.monitoring.samples import choose_prompts
from response_generator.training.trainer_config import build_dpo_config, build_sft_config, find_changed_settings
from response_generator.training.training_method import DPO, SFT, TrainingMethod

Config = DPOConfig | SFTConfig


@dataclass(frozen=True)
class PreparedTraining:
    """`start` is the adapter that training starts from, None for a new LoRA. `reference` is None for a frozen copy of
    it, and in SFT. `held_out` is None without an eval_dataset. `changed_settings` are lines about settings the device
    changes. `sample_requests` are the prompts of the sample replies."""

    method: TrainingMethod
    config: Config
    start: AdapterFile | None
    reference: AdapterFile | None
    tokenizer: PreTrainedTokenizerBase
    formatter: ChatFormatter
    train: TokenizedRows
    held_out: TokenizedRows | None
    changed_settings: list[str]
    sample_requests: list[GenerationRequest]

    def identify_run(self, run: RunFolder) -> dict[str, Any]:
        """What a checkpoint must agree with to be resumed: the resolved args, the weights that training reads, and a
        digest of the tokens."""
        data = [rows.digest() for rows in (self.train, self.held_out) if rows]
        return {"arguments": run.arguments, "weights": run.identify_weights(downloaded=True), "data": data}


def prepare_dpo(args: DPOArguments, pairs: list[Pair], held_out_pairs: list[Pair]) -> PreparedTraining:
    """Checks settings, adapters, export, tokenizer and template, and tokenizes the pairs.

    Raises:
        InputError: with what is wrong.
    """
    config = build_dpo_config(args)
    start = loading.resolve_initial_adapter(args)
    reference = loading.resolve_reference_adapter(args, start)
    merged_model.check_export_base(args, start)

    def tokenize(rows: list[Pair], formatter: ChatFormatter) -> TokenizedPairs:
        return tokenize_pairs(rows, formatter, config.max_length)

    return prepare_rows(DPO, args, config, start, reference, tokenize, pairs, held_out_pairs)


def prepare_sft(args: SFTArguments, dialogues: list[Dialogue], held_out: list[Dialogue]) -> PreparedTraining:
    """Checks settings, adapter, tokenizer and template, and tokenizes the dialogues.

    Raises:
        InputError: with what is wrong.
    """
    config = build_sft_config(args)
    start = loading.resolve_initial_adapter(args)

    def tokenize(rows: list[Dialogue], formatter: ChatFormatter) -> TokenizedDialogues:
        return tokenize_dialogues(rows, formatter, config.max_length, args.replies)

    return prepare_rows(SFT, args, config, start, None, tokenize, dialogues, held_out)


def prepare_rows(
    method: TrainingMethod,
    args: AdapterTrainingArguments,
    config: Config,
    start: AdapterFile | None,
    reference: AdapterFile | None,
    tokenize: Callable[[list, ChatFormatter], TokenizedRows],
    rows: Sequence[Pair] | Sequence[Dialogue],
    held_out: Sequence[Pair] | Sequence[Dialogue],
) -> PreparedTraining:
    """The part that is the same for both methods: tokenizer, template, tokens and sample prompts."""
    tokenizer = load_tokenizer(args, start)
    formatter = ChatFormatter.of(tokenizer, args.chat_template, args.label_set)
    return PreparedTraining(
        method,
        config,
        start,
        reference,
        tokenizer,
        formatter,
        train=tokenize(rows, formatter),
        held_out=tokenize(held_out, formatter) if held_out else None,
        changed_settings=find_changed_settings(args, config),
        sample_requests=choose_prompts(
            held_out or rows, formatter, args.sample_replies, inference.context_length(args)
        ),
    )
