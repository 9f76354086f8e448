"""The programs that read an args file, with the class of their arguments."""

from dataclasses import dataclass

from response_generator.config.chat_schema import ChatArguments
from response_generator.config.preference_schema import DescriptionArguments, PreferenceDataArguments
from response_generator.config.rounds.rounds_schema import RoundsArguments
from response_generator.config.schema import EvaluateArguments
from response_generator.config.section import Section
from response_generator.config.training_schema import ClassifierArguments, DPOArguments, SFTArguments


@dataclass(frozen=True)
class Program:
    name: str
    arguments: type[Section]
    schema_name: str | None = None
    """Name of its JSON Schema in args/schemas, without the suffix; None: it takes no args file."""
    args_file: str | None = None
    """Name of its args file, in args or in the folder of a recipe."""


PROGRAMS = (
    Program("fine_tune_dpo.py", DPOArguments, "dpo", "dpo_arg.json"),
    Program("evaluate.py", EvaluateArguments, "evaluate", "evaluate_arg.json"),
    Program("python -m response_generator.sft", SFTArguments, "sft", "sft_arg.json"),
    Program(
        "python -m response_generator.classifier", ClassifierArguments, "classifier", "emotion_classifier_arg.json"
    ),
    Program("python -m response_generator.preferences", PreferenceDataArguments, "preference", "preference_arg.json"),
    Program("python -m response_generator.preferences --describe", DescriptionArguments),
    Program("python -m response_generator.rounds", RoundsArguments, "rounds", "rounds_arg.json"),
    Program("python -m response_generator.chat", ChatArguments, "chat", "chat_arg.json"),
)
