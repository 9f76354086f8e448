"""Checks everything that a run needs besides its args file, in under a second, and reports all errors together."""

from pathlib import Path

from response_generator.cli import gpu_requirements
from response_generator.config import model_files
from response_generator.config.chat_schema import ChatArguments
from response_generator.config.preference_schema import DescriptionArguments
from response_generator.config.schema import (
    EvaluateArguments,
    LabelArguments,
    LoadingArguments,
    ModelArguments,
    WandbArguments,
)
from response_generator.config.scoring_schema import RewardArguments
from response_generator.config.section import Section
from response_generator.config.source_list import Source, list_sources
from response_generator.config.sources import (
    SourceKind,
    find_adapter_source_errors,
    find_dataset_source_errors,
    find_file_errors,
    find_model_source_errors,
    is_local,
)
from response_generator.config.training_schema import AdapterTrainingArguments, DPOArguments
from response_generator.data.reading import read_datasets
from response_generator.errors import InputError
from response_generator.labels import Labels
from response_generator.modeling import merge
from response_generator.runs import distributed, tracking, upload
from response_generator.runs.hub_sources import find_hub_errors
from response_generator.runs.run_folder import RunFolder
from response_generator.scoring.emotion_words import find_word_errors
from response_generator.training.checkpoints import checkpointing

# Allowed endings of the class names of models.
HEADS = {
    SourceKind.BASE_MODEL: model_files.CAUSAL_LM,
    SourceKind.EXPORT_BASE: model_files.CAUSAL_LM,
    SourceKind.CLASSIFIER: model_files.CLASSIFIER,
    SourceKind.LANGUAGE_MODEL: model_files.CAUSAL_LM,
    SourceKind.PRETRAINED_MODEL: model_files.ANY_MODEL,
}
WANDB_KEY_MISSING = (
    "wandb.mode: got 'online', but there is no API key; set WANDB_API_KEY, or run `wandb login` once, or pass "
    "--set wandb.mode=offline"
)


def check_environment(
    arguments: LabelArguments, args_files: tuple[str, ...] = (), predictions: Path | None = None
) -> RunFolder:
    """Checks folders, files, hub ids and credentials.

    Args:
        args_files: the files that the arguments come from, for environment.json.
        predictions: the file or run folder with the replies of a finished evaluation. With it, only what
            `scoring` names is checked; the other models and the data are not needed.

    Returns:
        The run folder, with nothing written to it yet.

    Raises:
        InputError: with all errors found.
    """
    sources = list_sources(arguments)
    if predictions is not None:
        sources = [source for source in sources if source.key.startswith("scoring.")]
    is_description = isinstance(arguments, DescriptionArguments)  # is written again each time, whatever it read before
    run = RunFolder.of(arguments, {} if is_description else name_weights(sources), args_files)
    if predictions is not None and not run.holds(predictions):
        run.arguments["from_predictions"] = str(predictions.absolute())
    keeps_finished = predictions is None and not is_description
    errors = run.find_errors(keeps_finished)
    if not errors and run.is_finished and keeps_finished:
        return run  # the models and data of a finished run may have been moved or deleted
    errors += find_input_errors(arguments, sources, predictions)
    errors = errors or run.find_weight_errors()
    if errors:
        raise InputError(*errors, *find_row_errors(sources, arguments.label_set))
    return run


def check_chat(arguments: ChatArguments) -> None:
    """The same for a chat, which has no run folder."""
    errors = find_input_errors(arguments, list_sources(arguments))
    if errors:
        raise InputError(*errors)


def name_weights(sources: list[Source]) -> dict[str, str]:
    """`{key: name}` of the sources whose weights must be the same at every start."""
    others = SourceKind.DATASET, SourceKind.EXPORT_BASE  # an export comes at the end; no start depends on that before
    return {source.key: source.name for source in sources if source.kind not in others}


def find_input_errors(arguments: Section, sources: list[Source], predictions: Path | None = None) -> list[str]:
    """Checks everything but the run folder; see `check_environment`."""
    errors = []
    loads_base_model = predictions is None and isinstance(arguments, LoadingArguments)
    trains_adapter = isinstance(arguments, AdapterTrainingArguments)
    if loads_base_model and arguments.chat_template.file:
        errors += find_file_errors("chat_template.file", arguments.chat_template.file)
    if predictions is not None:
        errors += find_predictions_errors(predictions)
    errors += [message for source in sources for message in find_source_errors(source)]
    if isinstance(arguments, EvaluateArguments):
        errors += find_word_errors("scoring.emotion_words", arguments.scoring.emotion_words, arguments.label_set)
    for key, reward in list_rewards(arguments):
        if reward.naming_penalty and arguments.labels:
            words = f"{key}.emotion_words"
            errors += find_word_errors(words, reward.emotion_words, arguments.label_set, needed=True)
    if isinstance(arguments, ModelArguments):
        errors += find_wandb_errors(arguments.wandb)
    if loads_base_model and (trains_adapter or arguments.backend == "unsloth"):
        errors += gpu_requirements.find_gpu_errors()  # TRL's loss and unsloth's kernels use Triton
    if trains_adapter:
        errors += find_process_count_errors(Path(arguments.output_dir))
        errors += distributed.find_sharding_errors(arguments.trl_settings)
    if isinstance(arguments, DPOArguments):
        errors += merge.find_export_errors(arguments)
    errors += upload.find_upload_errors(getattr(arguments, "push_to_hub", None))
    return errors + find_hub_errors(sources)


def list_rewards(arguments: Section) -> list[tuple[str, RewardArguments]]:
    """The sections of the reward, each with its key."""
    best_of = getattr(arguments, "best_of", None)
    found = {"reward": getattr(arguments, "reward", None), "best_of.reward": best_of and best_of.reward}
    return [(key, reward) for key, reward in found.items() if reward]


def find_source_errors(source: Source) -> list[str]:
    """Checks the files of a local source."""
    if source.data:
        data = source.data
        return find_dataset_source_errors(source.key, data.path, data.revision, data.name)
    if source.kind is SourceKind.ADAPTER:
        return find_adapter_source_errors(source.key, source.name)
    return find_model_source_errors(source.key, source.name, HEADS[source.kind])


def find_row_errors(sources: list[Source], labels: Labels) -> list[str]:
    """Errors in the rows of local data sets. A run that starts reads them later anyway; one that other errors stop
    reads them here, so that they are not the surprise of the next start."""
    datasets = [source for source in sources if source.data and is_local(source.name)]
    readable = [source.data for source in datasets if not find_source_errors(source)]
    try:
        read_datasets(labels, *readable)
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


def find_predictions_errors(place: Path) -> list[str]:
    if not place.exists():
        return [f"--from_predictions {place}: no such file or folder"]
    folder = place if place.is_dir() else place.parent
    if (folder / "args.json").is_file() and not (folder / "metrics.json").is_file():
        return [f"--from_predictions {place}: the run is not finished; first run the command that started it again"]
    return []


def find_wandb_errors(wandb: WandbArguments) -> list[str]:
    return [WANDB_KEY_MISSING] if wandb.mode == "online" and not tracking.has_wandb_key() else []
