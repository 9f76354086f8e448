"""Values of an args file that contradict each other or are not supported. The libraries would report them late or not
at all. JSON types and single values are checked in `validation`."""

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from response_generator.config.chat_schema import ChatArguments
from response_generator.config.library.library_keywords import read_default
from response_generator.config.library.training_keys import F_DIVERGENCES, LOSS_TYPES
from response_generator.config.preference_schema import PreferenceDataArguments
from response_generator.config.rounds.rounds_conflicts import find_round_conflicts
from response_generator.config.rounds.rounds_schema import RoundsArguments
from response_generator.config.schema import BY_SERVER, EvaluateArguments
from response_generator.config.scoring_conflicts import find_label_conflicts, find_scoring_conflicts, list_filters
from response_generator.config.section import Section
from response_generator.labels import DAILY_DIALOG_EMOTIONS

EMOTIONS = set(DAILY_DIALOG_EMOTIONS)
LOSSES_WITH_F_DIVERGENCE = {"sigmoid", "sigmoid_norm", "hinge", "ipo", "exo_pair", "robust", "discopop", "sft"}


def find_conflicts(model: type[Section], values: dict[str, Any]) -> Iterator[str]:
    """Finds the conflicts of an args file whose values may have any JSON type."""
    yield from find_scoring_conflicts(model, values)
    for section in ("dpo", "sft"):
        if isinstance(values.get(section), dict):
            yield from find_training_conflicts(section, values)
    if isinstance(values.get("dpo"), dict):
        yield from find_loss_conflicts(values["dpo"])
    if isinstance(values.get("generation"), dict):
        yield from find_generation_conflicts(values)
        if model is EvaluateArguments:
            yield from find_evaluation_conflicts(values)
        if model is PreferenceDataArguments:
            yield from find_preference_conflicts(values)
        if model is ChatArguments and values["generation"].get("num_beams", 1) != 1:
            beams = values["generation"]["num_beams"]
            yield f"generation.num_beams: got {beams}; allowed: 1; replies are shown token by token"
    yield from find_server_conflicts(model, values)
    if isinstance(values.get("best_of"), dict) and isinstance(values["best_of"].get("reward"), dict):
        yield from find_order_conflicts(
            "best_of.reward", values["best_of"]["reward"], "min_characters", "max_characters"
        )
    yield from find_label_conflicts(model, values)
    if model is RoundsArguments:
        yield from find_round_conflicts(values)
    for path, section in list_filters(values):
        yield from find_filter_conflicts(path, section, values.get("labels", list(DAILY_DIALOG_EMOTIONS)))


def find_server_conflicts(model: type[Section], values: dict[str, Any]) -> Iterator[str]:
    """Values that may hold a secret are not shown."""
    server, method = values.get("server"), values.get("generation_method")
    if method == BY_SERVER and server is None:
        yield f'generation_method: "{BY_SERVER}" needs the section server, with url and model'
    if not isinstance(server, dict) or "server" not in model.model_fields:
        return
    if model is not ChatArguments and method != BY_SERVER:
        yield f'server: only for generation_method "{BY_SERVER}"; set generation_method, or remove the section'
    url, variable = server.get("url"), server.get("api_key_env")
    if isinstance(url, str) and not is_plain_url(url):
        yield "server.url: allowed: http://HOST:PORT or https://HOST/PATH, without a user name, password or query"
    if isinstance(variable, str) and not re.fullmatch(r"[A-Za-z_]\w*", variable):
        yield (
            "server.api_key_env: is no name of an environment variable; name the variable that holds the key, such as "
            "VLLM_API_KEY, and not the key"
        )
    if model is EvaluateArguments:
        yield from find_baseline_model_conflicts(server, values.get("baseline_adapter"))
    if model is ChatArguments and isinstance(server.get("models"), dict) and isinstance(values.get("adapters"), dict):
        names, adapters = server["models"].keys(), values["adapters"].keys()
        if names != adapters:
            yield f"server.models: got {', '.join(names) or 'none'}; needed: a model for each of {', '.join(adapters)}"


def is_plain_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 (raises ValueError where it is no port)
    except ValueError:
        return False
    is_complete = parts.scheme in ("http", "https") and bool(parts.hostname)
    return is_complete and url.isprintable() and not any(mark in url for mark in " @?#")


def find_baseline_model_conflicts(server: dict[str, Any], baseline_adapter: Any) -> Iterator[str]:
    baseline = server.get("baseline_model")
    if baseline_adapter is not None and baseline is None:
        yield (
            f"server.baseline_model: missing; baseline_adapter is {baseline_adapter!r}; name what the server calls "
            f"this model"
        )
    if baseline_adapter is None and baseline is not None:
        yield f"server.baseline_model: got {baseline!r}, but there is no baseline_adapter; name it, or remove the key"
    if baseline is not None and baseline == server.get("model"):
        yield f"server.baseline_model: got {baseline!r}, which is also server.model; name another model"


def find_generation_conflicts(values: dict[str, Any]) -> Iterator[str]:
    generation = values["generation"]
    if generation.get("max_new_tokens") is None:
        yield "generation.max_new_tokens: missing; without it, prompt and reply together would be limited to 20 tokens"
    yield from find_order_conflicts("generation", generation, "min_new_tokens", "max_new_tokens")


def find_evaluation_conflicts(values: dict[str, Any]) -> Iterator[str]:
    samples = values.get("samples_per_prompt", 1)
    if samples != 1 and not values["generation"].get("do_sample"):
        yield (
            f"samples_per_prompt: got {samples}; without sampling all replies to a prompt are the same; set "
            f"generation.do_sample: true"
        )
    if values.get("heldout_pairs") is not None and values.get("baseline_adapter") is None:
        yield 'heldout_pairs: the implicit reward needs a baseline; set baseline_adapter to an adapter, or to "none"'


def find_preference_conflicts(values: dict[str, Any]) -> Iterator[str]:
    if values.get("target_emotions") == "balanced" and values.get("gold_as_chosen"):
        yield (
            'target_emotions: "balanced" gives most prompts another target than their gold reply has, so '
            "gold_as_chosen must be false"
        )
    if not values["generation"].get("do_sample"):
        yield "generation.do_sample: must be true; without sampling all candidates of a prompt are the same"
    turns = values.get("history_turns")
    if isinstance(turns, int) and turns % 2 == 0:
        yield f"history_turns: got {turns}; allowed: an odd number, because the last turn of a prompt is the user's"
    if isinstance(values.get("reward"), dict):
        yield from find_order_conflicts("reward", values["reward"], "min_characters", "max_characters")


def find_filter_conflicts(section: str, filters: dict[str, Any], labels: Any) -> Iterator[str]:
    if filters.get("chosen_has_target_emotion") and labels == []:
        yield f"{section}.chosen_has_target_emotion: needs labels; got labels: []"
    if filters.get("equal_naming") and isinstance(labels, list) and not EMOTIONS >= set(map(str, labels)) > set():
        yield (
            f"{section}.equal_naming: its words are for the emotions {', '.join(DAILY_DIALOG_EMOTIONS)}; "
            f"got labels: {labels}; remove it"
        )
    yield from find_order_conflicts(section, filters, "min_characters", "max_characters")
    if filters.get("min_chosen_gibberish_score") is not None and filters.get("chosen_gibberish_labels") is None:
        yield f'{section}.min_chosen_gibberish_score: needs {section}.chosen_gibberish_labels, for example ["clean"]'


def find_order_conflicts(section: str, values: dict[str, Any], least_key: str, most_key: str) -> Iterator[str]:
    least, most = values.get(least_key), values.get(most_key)
    if isinstance(least, int) and isinstance(most, int) and least > most:
        yield f"{section}.{least_key}: got {least}; allowed: up to {most_key} ({most})"


def find_training_conflicts(section: str, values: dict[str, Any]) -> Iterator[str]:
    """Finds the conflicts that both kinds of training can have.

    Args:
        section: "dpo" or "sft", which holds the fields of TRL's configuration.
    """
    training = values[section]
    if training.get("bf16") and training.get("fp16"):
        yield f"{section}.fp16: bf16 is set too; keep one of the two"
    loading = values.get("from_pretrained")
    if values.get("backend") == "unsloth" and isinstance(loading, dict):
        model_length = loading.get("max_seq_length", read_default("from_pretrained", "max_seq_length"))
        row_length = training.get("max_length", read_default(section, "max_length"))
        if isinstance(row_length, int) and isinstance(model_length, int) and row_length > model_length:
            yield (
                f"{section}.max_length: {row_length} is more than from_pretrained.max_seq_length ({model_length}); "
                f"raise max_seq_length too"
            )
    yield from find_held_out_conflicts(section, training, has_eval_dataset=bool(values.get("eval_dataset")))
    yield from find_adapter_conflicts(values)


def find_loss_conflicts(dpo: dict[str, Any]) -> Iterator[str]:
    losses = dpo.get("loss_type", ["sigmoid"])
    if losses == []:
        yield f"dpo.loss_type: got []; needed: at least one of {', '.join(LOSS_TYPES)}"
    losses = losses if isinstance(losses, list) else []
    losses = [loss for loss in losses if loss in LOSS_TYPES]  # the others are refused, and may be unhashable
    divergence = dpo.get("f_divergence_type", "reverse_kl")
    if "exo_pair" in losses and not dpo.get("label_smoothing"):
        yield "dpo.label_smoothing: the loss exo_pair needs more than 0, for example 0.001"
    if divergence in F_DIVERGENCES and divergence != "reverse_kl" and not set(losses) <= LOSSES_WITH_F_DIVERGENCE:
        supported = ", ".join(sorted(LOSSES_WITH_F_DIVERGENCE))
        yield f"dpo.f_divergence_type: got {divergence!r}; it can be used only with the losses {supported}"
    if dpo.get("use_weighting") and {"aot", "aot_unpaired"} & set(losses):
        yield "dpo.use_weighting: cannot be used with the losses aot and aot_unpaired, which sort the pairs; remove it"


def find_held_out_conflicts(section: str, training: dict[str, Any], has_eval_dataset: bool) -> Iterator[str]:
    """Finds conflicts between evaluating, logging and saving checkpoints during training.

    A checkpoint is needed at every evaluation that may select the best adapter. When evaluation or logging happens at
    the end of an epoch, checkpoints must be saved there too: a run resumed from a checkpoint of the last step would
    skip them.
    """
    eval_strategy, save_strategy = training.get("eval_strategy", "no"), training.get("save_strategy", "steps")
    logging_strategy = training.get("logging_strategy", "steps")
    if eval_strategy != "no" and not has_eval_dataset:
        yield f'{section}.eval_strategy: needs held-out rows; name an eval_dataset, or set it to "no"'
    if save_strategy == "best":
        yield (
            f'{section}.save_strategy: "best" saves no checkpoint to resume from while the metric does not improve; '
            f"use {section}.load_best_model_at_end"
        )
    if "epoch" in (eval_strategy, logging_strategy) and save_strategy == "steps":
        yield (
            f'{section}.save_strategy: must be "epoch" when eval_strategy or logging_strategy is "epoch", or a resumed '
            "run may skip an evaluation or log entry"
        )
    if training.get("early_stopping_patience") is not None and not training.get("load_best_model_at_end"):
        yield f"{section}.early_stopping_patience: needs {section}.load_best_model_at_end: true"
    if not training.get("load_best_model_at_end"):
        return
    eval_steps = training.get("eval_steps") or training.get("logging_steps", read_default(section, "logging_steps"))
    save_steps = training.get("save_steps", read_default(section, "save_steps"))
    needs = f"{section}.load_best_model_at_end: needs"
    if eval_strategy == "no":
        yield f'{needs} {section}.eval_strategy, for example "steps"'
    elif save_strategy != eval_strategy:
        yield f"{needs} the same eval_strategy ({eval_strategy}) and save_strategy ({save_strategy})"
    elif eval_strategy == "steps" and save_steps != eval_steps:
        yield (
            f"{needs} the same eval_steps ({eval_steps}) and save_steps ({save_steps}), or the best adapter may not "
            f"have been saved"
        )


def find_adapter_conflicts(values: dict[str, Any]) -> Iterator[str]:
    """Training starts either from an adapter or from a new LoRA adapter that does not change the base model yet."""
    lora = values.get("lora")
    if "adapter" in values and values["adapter"] is None and lora is None:
        yield 'adapter: null needs the section lora, for example {"r": 16, "lora_alpha": 16}'
    if values.get("adapter") is not None and lora is not None:
        yield "lora: only for a new adapter (adapter: null); an existing adapter has its own settings; remove one"
    if not isinstance(lora, dict):
        return
    targets = lora.get("target_modules")
    if lora.get("trainable_token_indices") or (
        isinstance(targets, list) and ("lm_head" in targets or "embed_tokens" in targets)
    ):
        yield (
            "lora: target_modules and trainable_token_indices may not adapt lm_head or embed_tokens: the loss of TRL "
            "reads the weight of lm_head directly and would not train its adapter"
        )
