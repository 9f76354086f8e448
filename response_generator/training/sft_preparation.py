"""What is known of an SFT run before the base model is loaded: settings, adapter, tokenizer and tokenized dialogues."""

from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase
from trl import SFTConfig

from response_generator.config.training_schema import SFTArguments
from response_generator.data.chat_template import ChatFormatter
from response_generator.data.datasets import Dialogue
from response_generator.data.dialogue_tokenization import TokenizedDialogues, tokenize_dialogues
from response_generator.generation.sampling import GenerationRequest
from response_generator.modeling import inference, loading
from response_generator.modeling.adapter_file import AdapterFile
from response_generator.modeling.tokenizer import load_tokenizer
from response_generator.runs.run_folder import RunFolder
from response_generator.training.samples import choose_prompts
from response_generator.training.sft_config import build_sft_config
from response_generator.training.trainer_config import find_changed_settings


@dataclass(frozen=True)
class PreparedSFT:
    """`start` is the adapter that training starts from, None for a new LoRA. `held_out` is None without an
    eval_dataset. `changed_settings` are lines about settings the device changes. `sample_requests` are the prompts of
    the sample replies."""

    config: SFTConfig
    start: AdapterFile | None
    tokenizer: PreTrainedTokenizerBase
    formatter: ChatFormatter
    train: TokenizedDialogues
    held_out: TokenizedDialogues | None
    changed_settings: list[str]
    sample_requests: list[GenerationRequest]

    def identify_run(self, run: RunFolder) -> dict[str, Any]:
        """What a checkpoint must agree with to be resumed: the resolved args, the weights that training reads, and a
        digest of the tokens."""
        data = [rows.digest() for rows in (self.train, self.held_out) if rows]
        return {"arguments": run.arguments, "weights": run.identify_weights(downloaded=True), "data": data}


def prepare(args: SFTArguments, dialogues: list[Dialogue], held_out: list[Dialogue]) -> PreparedSFT:
    """Checks settings, adapter, tokenizer and template, and tokenizes the dialogues.

    Raises:
        InputError: with what is wrong.
    """
    config = build_sft_config(args)
    start = loading.resolve_initial_adapter(args)
    tokenizer = load_tokenizer(args, start)
    formatter = ChatFormatter.of(tokenizer, args.chat_template)
    return PreparedSFT(
        config,
        start,
        tokenizer,
        formatter,
        train=tokenize_dialogues(dialogues, formatter, config.max_length, args.replies),
        held_out=tokenize_dialogues(held_out, formatter, config.max_length, args.replies) if held_out else None,
        changed_settings=find_changed_settings(args, config),
        sample_requests=choose_prompts(held_out or dialogues, formatter, args.samples, inference.context_length(args)),
    )
