"""Lists the models, adapters and data sets that the arguments of a program name."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, get_args

from response_generator.config.dataset_schema import DatasetArguments
from response_generator.config.section import BARE_BASE_MODEL, Section
from response_generator.config.sources import SourceKind, join_dataset_revision


@dataclass(frozen=True)
class Source:
    """A model, an adapter or a data set.

    key: in the args, such as "scoring.emotion_model"; that of the section for a data set. name: a local path, or a hub
    id with or without its revision. data: the section of a data set; None for other sources.
    """

    key: str
    name: str
    kind: SourceKind
    data: DatasetArguments | None = None

    @property
    def name_key(self) -> str:
        """The key that holds the name."""
        return f"{self.key}.path" if self.data else self.key


def list_sources(arguments: Section, prefix: str = "") -> list[Source]:
    """Lists the sources by kind, and in the order of the schema within a kind.

    Args:
        prefix: of all keys, for a section: "scoring.".
    """
    found = list(walk_sources(arguments, prefix))
    return [source for kind in SourceKind for source in found if source.kind is kind]


def walk_sources(section: Section, prefix: str) -> Iterator[Source]:
    for field_name, field in type(section).model_fields.items():
        value, key = getattr(section, field_name), prefix + field_name
        kind = find_kind(*field.metadata, field.annotation)
        sections = list_sections(key, value)
        if sections:
            for place, each in sections.items():
                yield from walk_sources(each, f"{place}.")
        elif kind is SourceKind.DATASET:
            name = join_dataset_revision(section.path, section.revision)
            yield Source(prefix.removesuffix("."), name, kind, section)
        elif kind is not None and value is not None:
            names = {f"{key}.{each}": name for each, name in value.items()} if isinstance(value, dict) else {key: value}
            for key, name in names.items():
                if kind is not SourceKind.ADAPTER_OR_BASE:
                    yield Source(key, name, kind)
                elif name != BARE_BASE_MODEL:
                    yield Source(key, name, SourceKind.ADAPTER)


def list_sections(key: str, value: Any) -> dict[str, Section]:
    """`{key: section}` of a section, and of those in a list or an object: "datasets.0", "eval_datasets.NAME"."""
    held = {key: value}
    if isinstance(value, list):
        held = {f"{key}.{number}": each for number, each in enumerate(value)}
    elif isinstance(value, dict):
        held = {f"{key}.{name}": each for name, each in value.items()}
    return {place: each for place, each in held.items() if isinstance(each, Section)}


def find_kind(*parts: Any) -> SourceKind | None:
    """Finds the mark in the parts of a type, also inside `AdapterName | None` and `dict[str, AdapterName]`."""
    for part in parts:
        kind = part if isinstance(part, SourceKind) else find_kind(*get_args(part))
        if kind:
            return kind
    return None
