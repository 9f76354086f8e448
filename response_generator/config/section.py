"""What every class of arguments is made of: the base class, and the types of paths and of names of models."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, WithJsonSchema
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


def integer_or(word: str, maximum: int | None = None) -> Any:
    """The type of a key whose value is an integer, from 1 to `maximum`, or this word. Its errors name both, where those
    of pydantic's union would be one for each."""
    integers = {"type": "integer", "minimum": 1} | ({} if maximum is None else {"maximum": maximum})
    up_to = "" if maximum is None else f" to {maximum:,}"

    def check(value: Any) -> Any:
        if value != word and not (type(value) is int and value >= 1 and (maximum is None or value <= maximum)):
            raise ValueError(f'allowed: an integer from 1{up_to}, or "{word}"')
        return value

    schema = {"anyOf": [integers, {"type": "string", "enum": [word]}]}
    return Annotated[int | Literal[word], BeforeValidator(check), WithJsonSchema(schema)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True)


@dataclass(frozen=True)
class ArgsOf:
    """The mark of a section that is an args file of another program, which `arguments` is the class of."""

    arguments: type[Section]


def find_program(field: FieldInfo) -> type[Section] | None:
    """The class of the args that a section holds; None where it is no args file of another program."""
    return next((mark.arguments for mark in field.metadata if isinstance(mark, ArgsOf)), None)
