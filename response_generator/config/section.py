"""What every class of arguments is made of: the base class, and the types of paths and of names of models."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict
from pydantic.fields import FieldInfo

from response_generator.config.paths import resolve_path
from response_generator.config.sources import SourceKind, resolve_source

LocalPath = Annotated[str, AfterValidator(resolve_path)]
BARE_BASE_MODEL = "none"


def resolve_adapter(name: str) -> str:
    return name if name == BARE_BASE_MODEL else resolve_source(name)


# Hub ids or local paths. The kind is for `source_list.list_sources`, which finds every one of them in the args.
SourceName = Annotated[str, AfterValidator(resolve_source)]
BaseModelName = Annotated[SourceName, SourceKind.BASE_MODEL]
ClassifierName = Annotated[SourceName, SourceKind.CLASSIFIER]
LanguageModelName = Annotated[SourceName, SourceKind.LANGUAGE_MODEL]
AdapterName = Annotated[SourceName, SourceKind.ADAPTER]
AdapterOrBaseName = Annotated[str, AfterValidator(resolve_adapter), SourceKind.ADAPTER_OR_BASE]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True)


@dataclass(frozen=True)
class ArgsOf:
    """The mark of a section that is an args file of another program, which `arguments` is the class of."""

    arguments: type[Section]


def find_program(field: FieldInfo) -> type[Section] | None:
    """The class of the args that a section holds; None where it is no args file of another program."""
    return next((mark.arguments for mark in field.metadata if isinstance(mark, ArgsOf)), None)
