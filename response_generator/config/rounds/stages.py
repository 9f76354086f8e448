"""The args of each program in each round, made of those in the args file."""

from dataclasses import dataclass
from pathlib import Path

from response_generator.config.preference_schema import PreferenceDataArguments
from response_generator.config.rounds.rounds_schema import FIRST, RoundsArguments
from response_generator.config.schema import EvaluateArguments
from response_generator.config.training_schema import DPOArguments
from response_generator.config.validation import validate_arguments
from response_generator.constants import ADAPTER, PREFERENCES_FILE


@dataclass(frozen=True)
class Stages:
    """The args of the rounds, and those of the three programs as the args file has them."""

    args: RoundsArguments
    preferences: PreferenceDataArguments
    dpo: DPOArguments
    evaluation: EvaluateArguments

    @classmethod
    def of(cls, args: RoundsArguments) -> "Stages":
        """Resolves the args of the programs; in `args` they then have every key, as args.json is to have them."""
        preferences = validate_arguments(PreferenceDataArguments, args.preference_args, "preference_args")
        dpo = validate_arguments(DPOArguments, args.dpo_args, "dpo_args")
        evaluation = validate_arguments(EvaluateArguments, args.evaluate_args, "evaluate_args")
        sections = {"preference_args": preferences, "dpo_args": dpo, "evaluate_args": evaluation}
        resolved = {key: section.model_dump(mode="json") for key, section in sections.items()}
        return cls(args.model_copy(update=resolved), preferences, dpo, evaluation)

    def locate_round(self, number: int) -> Path:
        """The folder of a round, which is numbered from 1 on."""
        return Path(self.args.output_dir, f"round-{number}")

    def locate_pairs(self, number: int) -> Path:
        return self.locate_round(number) / "pairs"

    def locate_dpo(self, number: int) -> Path:
        return self.locate_round(number) / "dpo"

    def locate_evaluation(self, number: int) -> Path:
        return self.locate_round(number) / "evaluation"

    def locate_adapter(self, number: int) -> str:
        """The adapter after a round; after 0 rounds the one that the first starts from."""
        return str(self.locate_dpo(number) / "adapter") if number else self.args.adapter

    def build_preferences(self, number: int) -> PreferenceDataArguments:
        dataset, size = self.preferences.dataset, self.args.dialogues_per_round
        return self.preferences.model_copy(
            update={
                "output_dir": str(self.locate_pairs(number)),
                "seed": self.args.seed + number - 1,
                "adapter": self.locate_adapter(number - 1),
                "dataset": dataset.model_copy(update={"offset": dataset.offset + (number - 1) * size, "limit": size}),
            }
        )

    def build_dpo(self, number: int) -> DPOArguments:
        is_first = self.args.reference == FIRST and number > 1  # in the first round both are the same
        file = self.locate_pairs(number) / PREFERENCES_FILE
        return self.dpo.model_copy(
            update={
                "output_dir": str(self.locate_dpo(number)),
                "seed": self.args.seed + number - 1,
                "adapter": self.locate_adapter(number - 1),
                "reference_adapter": self.args.adapter if is_first else None,
                "dataset": self.dpo.dataset.model_copy(
                    update={"path": str(file), "name": None, "revision": None, "offset": 0, "limit": None}
                ),
            }
        )

    def build_evaluation(self, number: int) -> EvaluateArguments:
        """The best of several replies of the first adapter is sampled in the first round alone."""
        best_of = self.evaluation.best_of
        if best_of and number > 1:
            is_wanted = best_of.models is None or ADAPTER in best_of.models
            best_of = best_of.model_copy(update={"models": [ADAPTER]}) if is_wanted else None
        return self.evaluation.model_copy(
            update={
                "output_dir": str(self.locate_evaluation(number)),
                "seed": self.args.seed,
                "adapter": self.locate_adapter(number),
                "baseline_adapter": self.args.adapter,
                "best_of": best_of,
            }
        )
