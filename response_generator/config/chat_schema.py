"""The arguments of `python -m response_generator.chat`, in the same form as those in schema.py."""

import re
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from response_generator.config.library.key_rule import MAX_SEED
from response_generator.config.schema import LoadingArguments, ServerArguments
from response_generator.config.scoring_schema import BestOfArguments, ScoringArguments
from response_generator.config.section import AdapterOrBaseName

AUTO_EMOTION = "auto"  # in place of the label of a message: what the emotion classifier finds


def check_adapter_names(adapters: dict[str, str]) -> dict[str, str]:
    if not adapters or not all(re.fullmatch(r"[\w-]{1,40}", name) for name in adapters):
        raise ValueError("needed: one or more adapters; allowed in a name: up to 40 letters, digits, _ and -")
    return adapters


class ChatServerArguments(ServerArguments):
    models: dict[str, str]
    """What the server calls each of `adapters`, an object `{name: model}` with the same names."""


class ChatArguments(LoadingArguments):
    seed: int = Field(ge=0, le=MAX_SEED)
    """Random seed of the first reply to each message; every further reply to it has the next seed."""
    adapters: Annotated[dict[str, AdapterOrBaseName], AfterValidator(check_adapter_names)]
    """The adapters to talk to, an object `{name: adapter}`: a name to show, and a LoRA adapter (hub id or folder), or
    "none" for the bare base model. The first one replies until another is chosen."""
    target_emotion: str | None = None
    """Target label of the replies until another is chosen; null: the neutral label, or the first of `labels`."""
    user_emotion: str | None = None
    """Label of the user's messages; null: what the emotion classifier finds; without one, the neutral label or the
    first of `labels`."""
    server: ChatServerArguments | None = None
    """A server that writes the replies; null: the base model is loaded here."""
    generation: dict[str, Any]
    """Fields of transformers' GenerationConfig. The pad and EOS ids are the tokenizer's."""
    scoring: ScoringArguments | None = None
    """The emotion classifier and the gibberish classifier, which label every reply; null: none."""
    best_of: BestOfArguments | None = None
    """Each reply is the best of several; null: of one. It is shown when it is chosen."""
