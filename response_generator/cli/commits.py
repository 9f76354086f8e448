"""Finds the commits of the hub repositories that a run has read, for environment.json."""

from response_generator.cli.preflight import EXPORT_BASE, list_classifiers, list_sources
from response_generator.config.hub import ADAPTER_FILES, find_cached_commit
from response_generator.config.schema import ScoringArguments
from response_generator.config.sources import is_local
from response_generator.data.raw_rows import find_dataset_commit

Commits = dict[str, str | None]  # by key in the args; None if the commit is unknown


def find_adapter_and_dataset_commits(arguments) -> Commits:
    """Finds the commits of adapters, data sets and the base model of an export, except local ones.

    The commit of the base model is `model.commit` in environment.json, because unsloth may load the model from another
    repository.
    """
    models, adapters, datasets = list_sources(arguments)
    commits = find_model_commits({key: name for key, name in models.items() if key == EXPORT_BASE})
    commits |= {key: find_cached_commit(name, ADAPTER_FILES[0]) for key, name in adapters.items() if not is_local(name)}
    return commits | {key: find_dataset_commit(data) for key, data in datasets.items() if not is_local(data.path)}


def find_classifier_commits(scoring: ScoringArguments) -> Commits:
    return find_model_commits(list_classifiers(scoring))


def find_model_commits(names: dict[str, str]) -> Commits:
    return {key: find_cached_commit(name, "config.json") for key, name in names.items() if not is_local(name)}
