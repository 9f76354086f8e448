"""Finds the commits of the hub repositories that a run has read, for environment.json."""

from collections.abc import Iterable

from response_generator.config.model_files import ADAPTER_CONFIG, CONFIG
from response_generator.config.scoring_schema import ScoringArguments
from response_generator.config.section import Section
from response_generator.config.source_list import Source, list_sources
from response_generator.config.sources import SourceKind, is_local
from response_generator.data import dataset_library
from response_generator.runs.hub_sources import find_cached_commit

Commits = dict[str, str | None]  # by key in the args; None if the commit is unknown


def find_adapter_and_dataset_commits(arguments: Section) -> Commits:
    """Finds the commits of adapters, data sets and the base model of an export, except local ones.

    The commit of the base model is `model.commit` in environment.json, because unsloth may load the model from another
    repository.
    """
    kinds = SourceKind.EXPORT_BASE, SourceKind.ADAPTER, SourceKind.DATASET
    return find_commits(source for source in list_sources(arguments) if source.kind in kinds)


def find_classifier_commits(scoring: ScoringArguments, prefix: str = "scoring.") -> Commits:
    return find_commits(list_sources(scoring, prefix))


def find_commits(sources: Iterable[Source]) -> Commits:
    return {source.key: find_commit(source) for source in sources if not is_local(source.name)}


def find_commit(source: Source) -> str | None:
    if source.data:
        return dataset_library.find_commit(source.data)
    return find_cached_commit(source.name, ADAPTER_CONFIG if source.kind is SourceKind.ADAPTER else CONFIG)
