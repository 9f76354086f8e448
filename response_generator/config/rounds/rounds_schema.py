"""The arguments of `python -m response_generator.rounds`, in the same form as those in schema.py."""

from typing import Annotated, Any, Literal

from pydantic import Field

from response_generator.config.library.key_rule import MAX_COUNT, MAX_NUMBER, MAX_SEED
from response_generator.config.preference_schema import PreferenceDataArguments
from response_generator.config.schema import EvaluateArguments
from response_generator.config.section import AdapterName, ArgsOf, LocalPath, Section
from response_generator.config.training_schema import DPOArguments

MAX_ROUNDS = 20
FIRST, LAST = "first", "last"


class StopArguments(Section):
    """When a round is the last one: it brings no gain, or costs too much.

    Every limit compares the adapter of a round with the one that the first round starts from. A round beyond a limit
    is not kept.
    """

    min_gain: float = Field(default=0.0, ge=-1, le=1)
    """The rounds end when the share of followed targets is not more than this above that of every adapter before, such
    as 0.01 for one point; -1: this ends nothing."""
    max_token_ratio: float | None = Field(default=None, gt=0, le=MAX_NUMBER)
    """Greatest tokens per reply, as a multiple; null: any."""
    min_distinct_2_ratio: float | None = Field(default=None, gt=0, le=MAX_NUMBER)
    """Least distinct-2 of the replies, as a multiple; null: any."""
    max_gold_perplexity_ratio: float | None = Field(default=None, gt=0, le=MAX_NUMBER)
    """Greatest perplexity of the gold replies, as a multiple; null: any."""
    min_fit_ratio: float | None = Field(default=None, gt=0, le=MAX_NUMBER)
    """Least fit of the replies to their own dialogues, as a multiple. Needs `evaluate_args.scoring.fit_model`. null:
    any."""
    max_naming_rise: float | None = Field(default=None, ge=-1, le=1)
    """How much the share of replies that name their target emotion may rise, such as 0.05 for five points; null: any
    amount."""
    max_chosen_logp_fall: float | None = Field(default=None, ge=-MAX_NUMBER, le=MAX_NUMBER)
    """How much the log-probability of a chosen reply may fall in training, in nats: its mean over the last quarter of
    the steps, under the frozen reference minus under the adapter; null: any amount."""


class RoundsArguments(Section):
    output_dir: LocalPath
    """Run folder. All files of all rounds are written there."""
    seed: int = Field(ge=0, le=MAX_SEED - MAX_ROUNDS)
    """Random seed. Pairs and DPO of a round take this number plus the number of rounds before it, every evaluation the
    number itself."""
    rounds: int = Field(ge=1, le=MAX_ROUNDS)
    """Rounds at most. Each builds pairs from the replies of the adapter so far, trains on them, and evaluates."""
    dialogues_per_round: int = Field(ge=1, le=MAX_COUNT)
    """Dialogues that a round builds its pairs from. Each round takes the next ones of `preference_args.dataset`, from
    its `offset` on."""
    adapter: AdapterName
    """LoRA adapter that the first round starts from, and that every round is compared with: hub id or folder. It takes
    the place of the adapters in the args of the three programs."""
    reference: Literal[FIRST, LAST] = LAST
    """Frozen reference of DPO. `last`: the adapter that the round starts from; `first`: the adapter that the first
    round starts from."""
    stop: StopArguments = StopArguments()
    """When a round is the last one, and which rounds may be kept."""
    preference_args: Annotated[dict[str, Any], ArgsOf(PreferenceDataArguments)]
    """Args of `python -m response_generator.preferences`: `{"extends": "FILE"}`, with changes beside it. A round
    replaces `output_dir`, `seed`, `adapter`, and `offset` and `limit` of `dataset`."""
    dpo_args: Annotated[dict[str, Any], ArgsOf(DPOArguments)]
    """Args of `fine_tune_dpo.py`, in the same form. A round replaces `output_dir`, `seed`, `adapter`,
    `reference_adapter` and `path` of `dataset`."""
    evaluate_args: Annotated[dict[str, Any], ArgsOf(EvaluateArguments)]
    """Args of `evaluate.py`, in the same form. Its dialogues choose the best round, so report on others. A round
    replaces `output_dir`, `seed`, `adapter` and `baseline_adapter`."""
