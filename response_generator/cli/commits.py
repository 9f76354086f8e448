"""The commit of every hub repository that a run has read, for environment.json."""

from response_generator.cli.preflight import list_classifiers, list_sources
from response_generator.config.hub import ADAPTER_FILES, find_cached_commit
from response_generator.config.schema import EvaluateArguments
from response_generator.config.sources import is_local
from response_generator.data.raw_rows import find_dataset_commit

Commits = dict[str, str | None]  # by the key in the args; None where it cannot be told


def find_adapter_and_dataset_commits(arguments) -> Commits:
    """Of the adapters, the data sets and the base of an export, as far as they are on the hub.

    That of the base model is `model.commit` of environment.json: unsloth may load a copy from another repository.
    """
    models, adapters, datasets = list_sources(arguments)
    commits = find_model_commits({key: name for key, name in models.items() if key == "export.base_model"})
    commits |= {key: find_cached_commit(name, ADAPTER_FILES[0]) for key, name in adapters.items() if not is_local(name)}
    return commits | {key: find_dataset_commit(data) for key, data in datasets.items() if not is_local(data.path)}


def find_classifier_commits(arguments: EvaluateArguments) -> Commits:
    return find_model_commits(list_classifiers(arguments))


def find_model_commits(names: dict[str, str]) -> Commits:
    return {key: find_cached_commit(name, "config.json") for key, name in names.items() if not is_local(name)}
