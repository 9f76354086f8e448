"""What is known before a base model is loaded: models that score, adapter, tokenizer, sampling settings and prompts."""

from dataclasses import dataclass, replace

from transformers import GenerationConfig, PreTrainedTokenizerBase

from response_generator.config.dataset_schema import FilterArguments
from response_generator.config.preference_schema import PreferenceDataArguments
from response_generator.config.scoring_schema import ScoringArguments
from response_generator.constants import ADAPTER, CLEAN
from response_generator.data.chat_template import ChatFormatter
from response_generator.data.datasets import Dialogue
from response_generator.errors import InputError
from response_generator.generation.generation_requests import GenerationRequest, build_generation_config, check_context
from response_generator.generation.server.completions import check_settings_of_server
from response_generator.modeling import inference, loading
from response_generator.modeling.adapter_file import AdapterFile
from response_generator.modeling.base_config import check_loading
from response_generator.modeling.tokenizer import load_tokenizer
from response_generator.scoring import classifiers, fit


@dataclass(frozen=True)
class PreparedBuilding:
    """`requests` are the prompts, without the gold replies' tokens: their log-probabilities are not needed."""

    adapter: AdapterFile
    tokenizer: PreTrainedTokenizerBase
    formatter: ChatFormatter
    generation_config: GenerationConfig
    requests: list[GenerationRequest]

    @property
    def prompts(self) -> list[Dialogue]:
        return [request.dialogue for request in self.requests]


def prepare_building(args: PreferenceDataArguments, prompts: list[Dialogue]) -> PreparedBuilding:
    """Checks the models that score, adapter, tokenizer, template and sampling settings, and tokenizes the prompts.

    Raises:
        InputError: with what is wrong.
    """
    classifiers.check_classifiers(args.scoring, args.label_set)
    if args.scoring.gibberish_model is not None:
        check_gibberish_labels(args.scoring, args.filters)
    if args.scoring.fit_model is not None:
        fit.check_fit_model(args.scoring, {prompt.index: prompt.history for prompt in prompts})
    check_loading(args)
    adapter = loading.find_adapter(ADAPTER, args.adapter, args)
    tokenizer = load_tokenizer(args, adapter)
    formatter = ChatFormatter.of(tokenizer, args.chat_template, args.label_set)
    config = build_generation_config(args.generation, tokenizer)
    if args.server:
        check_settings_of_server(config)
    requests = [GenerationRequest.of(prompt, formatter) for prompt in prompts]
    requests = [replace(request, gold_ids=[]) for request in requests]
    check_context(requests, config.max_new_tokens, inference.context_length(args))
    return PreparedBuilding(adapter, tokenizer, formatter, config, requests)


def check_gibberish_labels(scoring: ScoringArguments, filters: FilterArguments) -> None:
    """Raises InputError when the gibberish classifier does not have the label CLEAN or a label of the filters."""
    labels = classifiers.read_label_names(scoring.gibberish_model)
    if CLEAN not in labels:
        raise InputError(
            f"scoring.gibberish_model: {scoring.gibberish_model}: its labels are {', '.join(labels)}; the reward needs "
            f"{CLEAN!r}; name another classifier"
        )
    unknown = sorted(set(filters.chosen_gibberish_labels or []) - set(labels))
    if unknown:
        raise InputError(
            f"filters.chosen_gibberish_labels: got {', '.join(unknown)}; allowed: the labels of "
            f"{scoring.gibberish_model}: {', '.join(labels)}"
        )
