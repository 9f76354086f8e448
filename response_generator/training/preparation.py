"""What is known of a DPO run before the base model is loaded: settings, adapters, tokenizer and tokenized pairs."""

from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase
from trl import DPOConfig

from response_generator.config.training_schema import DPOArguments
from response_generator.data.chat_template import ChatFormatter
from response_generator.data.datasets import Pair
from response_generator.data.tokenization import TokenizedPairs, tokenize_pairs
from response_generator.generation.sampling import GenerationRequest
from response_generator.modeling import inference, loading, merged_model
from response_generator.modeling.adapter_file import AdapterFile
from response_generator.modeling.tokenizer import load_tokenizer
from response_generator.runs.run_folder import RunFolder
from response_generator.training.dpo_config import build_dpo_config
from response_generator.training.samples import choose_prompts
from response_generator.training.trainer_config import find_changed_settings


@dataclass(frozen=True)
class PreparedTraining:
    """`start` is the adapter that training starts from, None for a new LoRA. `reference` is None for a frozen copy of
    it. `held_out` is None without an eval_dataset. `changed_settings` are lines about settings the device changes.
    `sample_requests` are the prompts of the sample replies."""

    config: DPOConfig
    start: AdapterFile | None
    reference: AdapterFile | None
    tokenizer: PreTrainedTokenizerBase
    formatter: ChatFormatter
    train: TokenizedPairs
    held_out: TokenizedPairs | None
    changed_settings: list[str]
    sample_requests: list[GenerationRequest]

    def identify_run(self, run: RunFolder) -> dict[str, Any]:
        """What a checkpoint must agree with to be resumed: the resolved args, the weights that training reads, and a
        digest of the tokens."""
        data = [rows.digest() for rows in (self.train, self.held_out) if rows]
        return {"arguments": run.arguments, "weights": run.identify_weights(downloaded=True), "data": data}


def prepare(args: DPOArguments, pairs: list[Pair], held_out_pairs: list[Pair]) -> PreparedTraining:
    """Checks settings, adapters, tokenizer, template and export, and tokenizes the pairs.

    Raises:
        InputError: with what is wrong.
    """
    config = build_dpo_config(args)
    start = loading.resolve_initial_adapter(args)
    reference = loading.resolve_reference_adapter(args, start)
    merged_model.check_export_base(args, start)
    tokenizer = load_tokenizer(args, start)
    formatter = ChatFormatter.of(tokenizer, args.chat_template)
    return PreparedTraining(
        config,
        start,
        reference,
        tokenizer,
        formatter,
        train=tokenize_pairs(pairs, formatter, config.max_length),
        held_out=tokenize_pairs(held_out_pairs, formatter, config.max_length) if held_out_pairs else None,
        changed_settings=find_changed_settings(args, config),
        sample_requests=choose_prompts(
            held_out_pairs or pairs, formatter, args.samples, inference.context_length(args)
        ),
    )
