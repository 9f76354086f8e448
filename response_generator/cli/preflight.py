"""Checks everything that a run needs besides its args file, in under a second, and reports all errors together."""

import netrc
import os
from pathlib import Path
from urllib.parse import urlparse

from response_generator.cli import gpu_requirements
from response_generator.config import model_files
from response_generator.config.chat_schema import ChatArguments
from response_generator.config.classifier_schema import ClassifierArguments
from response_generator.config.hub import find_hub_errors
from response_generator.config.preference_schema import DescriptionArguments, PreferenceDataArguments
from response_generator.config.schema import (
    BARE_BASE_MODEL,
    DatasetArguments,
    EvaluateArguments,
    GenerationArguments,
    ModelArguments,
    ScoringArguments,
    WandbArguments,
)
from response_generator.config.sources import (
    find_adapter_source_errors,
    find_dataset_source_errors,
    find_file_errors,
    find_model_source_errors,
    is_local,
    join_dataset_revision,
)
from response_generator.config.training_schema import AdapterTrainingArguments, DPOArguments
from response_generator.data.reading import read_datasets
from response_generator.errors import InputError
from response_generator.modeling import merge
from response_generator.runs import distributed, hub
from response_generator.runs.run_folder import RunFolder
from response_generator.training import checkpointing

EXPORT_BASE = "export.base_model"
WANDB_KEY_MISSING = (
    "wandb.mode: got 'online', but there is no API key; set WANDB_API_KEY, or run `wandb login` once, or pass "
    "--set wandb.mode=offline"
)


def check_environment(arguments: ModelArguments, predictions: Path | None = None) -> RunFolder:
    """Checks folders, files, hub ids and credentials.

    Args:
        predictions: the file or run folder with the replies of a finished evaluation. With it, only the classifiers
            are checked; the other models and the data are not needed.

    Returns:
        The run folder, with nothing written to it yet.

    Raises:
        InputError: with all errors found.
    """
    models, adapters, datasets = (
        list_sources(arguments) if predictions is None else (list_classifiers(arguments.scoring), {}, {})
    )
    # The base model of an export is read once, at the end; no start depends on that of another.
    sources = {key: name for key, name in (models | adapters).items() if key != EXPORT_BASE}
    run = RunFolder.of(arguments, sources)
    if predictions is not None and not run.holds(predictions):
        run.arguments["from_predictions"] = str(predictions.absolute())
    errors = run.find_errors(keeps_finished=predictions is None)
    if not errors and run.is_finished and predictions is None:
        return run  # the models and data of a finished run may have been moved or deleted
    if predictions is None:
        errors += find_file_errors("chat_template.file", arguments.chat_template.file)
    else:
        errors += find_predictions_errors(predictions)
    errors += [message for key, name in models.items() for message in find_model_errors(key, name)]
    errors += [message for key, name in adapters.items() for message in find_adapter_source_errors(key, name)]
    errors += [message for key, data in datasets.items() for message in find_dataset_errors(key, data)]
    errors += find_wandb_errors(arguments.wandb)
    if isinstance(arguments, AdapterTrainingArguments) or (arguments.backend == "unsloth" and predictions is None):
        errors += gpu_requirements.find_gpu_errors()  # TRL's loss and unsloth's kernels use Triton
    if isinstance(arguments, AdapterTrainingArguments):
        errors += find_process_count_errors(run.path) + distributed.find_sharding_errors(arguments.trl_settings)
    if isinstance(arguments, DPOArguments):
        errors += merge.find_export_errors(arguments)
    if isinstance(arguments, (AdapterTrainingArguments, PreferenceDataArguments)):
        errors += hub.find_upload_errors(arguments.push_to_hub)
    errors += find_hub_errors(list_hub_sources(models, adapters, datasets))
    errors = errors or run.find_weight_errors()
    if errors:
        raise InputError(*errors, *find_row_errors(datasets))
    return run


def check_description(arguments: DescriptionArguments) -> RunFolder:
    """The same for a description of preference data."""
    run = RunFolder.of(arguments)
    models = list_classifiers(arguments.scoring) if arguments.scoring else {}
    datasets = {"dataset": arguments.dataset}
    errors = run.find_errors()
    errors += [message for key, name in models.items() for message in find_model_errors(key, name)]
    errors += [message for key, data in datasets.items() for message in find_dataset_errors(key, data)]
    errors += find_hub_errors(list_hub_sources(models, {}, datasets))
    if errors:
        raise InputError(*errors, *find_row_errors(datasets))
    return run


def check_classifier_training(arguments: ClassifierArguments) -> RunFolder:
    """The same for the training of a classifier."""
    models = {"base_model": arguments.base_model}
    run = RunFolder.of(arguments, models)
    errors = run.find_errors(keeps_finished=True)
    if not errors and run.is_finished:
        return run
    sections = {key: getattr(arguments, key) for key in ("dataset", "extra_dataset", "eval_dataset")}
    datasets = {key: data for key, data in sections.items() if data}
    errors += find_model_source_errors("base_model", arguments.base_model, model_files.ANY_MODEL)
    errors += [message for key, data in datasets.items() for message in find_dataset_errors(key, data)]
    errors += find_hub_errors(list_hub_sources(models, {}, datasets))
    if errors:
        raise InputError(*errors, *find_row_errors(datasets))
    return run


def check_chat(arguments: ChatArguments) -> None:
    """The same for a chat, which has no run folder and no data."""
    models = {"base_model": arguments.base_model}
    models |= list_classifiers(arguments.scoring) if arguments.scoring else {}
    adapters = {f"adapters.{name}": path for name, path in arguments.adapters.items() if path != BARE_BASE_MODEL}
    errors = find_file_errors("chat_template.file", arguments.chat_template.file)
    errors += [message for key, name in models.items() for message in find_model_errors(key, name)]
    errors += [message for key, name in adapters.items() for message in find_adapter_source_errors(key, name)]
    if arguments.backend == "unsloth":
        errors += gpu_requirements.find_gpu_errors()
    errors += find_hub_errors(list_hub_sources(models, adapters, {}))
    if errors:
        raise InputError(*errors)


def find_model_errors(key: str, name: str) -> list[str]:
    heads = model_files.CLASSIFIER if key.startswith("scoring.") else model_files.CAUSAL_LM
    return find_model_source_errors(key, name, heads)


def find_dataset_errors(key: str, data: DatasetArguments) -> list[str]:
    return find_dataset_source_errors(key, data.path, data.revision, data.name)


def find_row_errors(datasets: dict[str, DatasetArguments]) -> list[str]:
    """Errors in the rows of local data sets. A run that starts reads them later anyway; one that other errors stop
    reads them here, so that they are not the surprise of the next start."""
    readable = [data for key, data in datasets.items() if is_local(data.path) and not find_dataset_errors(key, data)]
    try:
        read_datasets(*readable)
    except InputError as error:
        return error.messages
    return []


def find_process_count_errors(run_folder: Path) -> list[str]:
    """Checks that a run is resumed with as many processes as before: with another number the batches would differ."""
    checkpoint = checkpointing.find_last_checkpoint(run_folder)
    if checkpoint is None or checkpointing.name_log_sums_file(checkpoint, 0, distributed.world_size()).is_file():
        return []
    return [
        f"output_dir: {checkpoint}: was not written by {distributed.world_size()} process(es); start the same number "
        f"of processes as before"
    ]


def list_sources(arguments) -> tuple[dict[str, str], dict[str, str], dict[str, DatasetArguments]]:
    """Returns `{key: name}` of the models and of the adapters, and `{key: section}` of the data sets of a run."""
    models = {"base_model": arguments.base_model}
    adapters = {"adapter": arguments.adapter} if arguments.adapter is not None else {}
    datasets = {"dataset": arguments.dataset}
    if isinstance(arguments, (GenerationArguments, DPOArguments)) and arguments.scoring is not None:
        models |= list_classifiers(arguments.scoring)
    if isinstance(arguments, EvaluateArguments):
        if arguments.preferences is not None:
            datasets["preferences.dataset"] = arguments.preferences.dataset
        if arguments.baseline_adapter not in (None, BARE_BASE_MODEL):
            adapters["baseline_adapter"] = arguments.baseline_adapter
    if isinstance(arguments, DPOArguments):
        if arguments.reference_adapter is not None:
            adapters["reference_adapter"] = arguments.reference_adapter
        if arguments.export is not None and arguments.export.base_model is not None:
            models[EXPORT_BASE] = arguments.export.base_model
    if isinstance(arguments, AdapterTrainingArguments) and arguments.eval_dataset is not None:
        datasets["eval_dataset"] = arguments.eval_dataset
    return models, adapters, datasets


def list_hub_sources(
    models: dict[str, str], adapters: dict[str, str], datasets: dict[str, DatasetArguments]
) -> dict[str, tuple[str, str]]:
    """Returns the names on the hub as `{key: (name with its revision, "model" or "adapter" or "dataset")}`."""
    sources = {key: (name, "model") for key, name in models.items()}
    sources |= {key: (name, "adapter") for key, name in adapters.items()}
    sources |= {
        f"{key}.path": (join_dataset_revision(data.path, data.revision), "dataset") for key, data in datasets.items()
    }
    return {key: (name, source_type) for key, (name, source_type) in sources.items() if not is_local(name)}


def find_predictions_errors(place: Path) -> list[str]:
    if not place.exists():
        return [f"--from_predictions {place}: no such file or folder"]
    folder = place if place.is_dir() else place.parent
    if (folder / "args.json").is_file() and not (folder / "metrics.json").is_file():
        return [f"--from_predictions {place}: the run is not finished; first run the command that started it again"]
    return []


def list_classifiers(scoring: ScoringArguments) -> dict[str, str]:
    return {f"scoring.{key}": getattr(scoring, key) for key in ("emotion_model", "gibberish_model")}


def find_wandb_errors(wandb: WandbArguments) -> list[str]:
    if wandb.mode != "online" or os.environ.get("WANDB_API_KEY"):
        return []
    host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname
    try:
        credentials = netrc.netrc(os.environ.get("NETRC")).authenticators(host)
    except (OSError, netrc.NetrcParseError):
        credentials = None
    return [] if credentials else [WANDB_KEY_MISSING]
