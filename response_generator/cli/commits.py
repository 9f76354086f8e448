"""The commit of every hub repository that a run has read, for environment.json."""

from response_generator.cli.preflight import judges, named_sources
from response_generator.config.schema import EvaluateArguments
from response_generator.config.sources import ADAPTER_FILES, cached_commit, is_local
from response_generator.data.raw_rows import dataset_commit

Commits = dict[str, str | None]  # by the key in the args; None where it cannot be told


def of_adapters_and_data(arguments) -> Commits:
    """Of the adapters, the data sets and the base of an export, as far as they are on the hub.

    That of the base model is `model.commit` of environment.json: unsloth may load a copy from another repository.
    """
    models, adapters, datasets = named_sources(arguments)
    commits = of_models({key: name for key, name in models.items() if key == "export.base_model"})
    commits |= {key: cached_commit(name, ADAPTER_FILES[0]) for key, name in adapters.items() if not is_local(name)}
    return commits | {key: dataset_commit(data) for key, data in datasets.items() if not is_local(data.path)}


def of_classifiers(arguments: EvaluateArguments) -> Commits:
    return of_models(judges(arguments))


def of_models(names: dict[str, str]) -> Commits:
    return {key: cached_commit(name, "config.json") for key, name in names.items() if not is_local(name)}
