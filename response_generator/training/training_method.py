"""What differs between DPO and SFT in the code that both share, from the trainer to the model card."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from transformers import TrainerState, TrainingArguments

from response_generator.training import dpo_loss_types
from response_generator.training.monitoring import curves, dpo_health, sft_health
from response_generator.training.trl_trainers import ResumableDPOTrainer, ResumableSFTTrainer, ResumableTrainer


@dataclass(frozen=True)
class MetricCard:
    """A card of the report: its title, TRL's name of the metric, and the format of its value."""

    title: str
    metric: str
    form: str


@dataclass(frozen=True)
class TrainingMethod:
    """`metrics` and `bar_metrics` are `{TRL's name: words}`, for the results and for the progress bar."""

    name: str  # in lower case the section of the args
    unit: str  # what the rows of the data are, in the plural
    headline: str  # what the model card says of the adapter
    trainer_class: type[ResumableTrainer]
    find_warnings: Callable[[TrainerState, Any], dict[str, str | None]]
    unchecked_note: str  # what the warnings do not cover
    metrics: dict[str, str]  # the loss comes before them
    bar_metrics: dict[str, str]
    cards: tuple[MetricCard, ...]
    summary_settings: tuple[str, ...]  # fields of TRL's configuration
    list_initial_losses: Callable[[TrainingArguments], dict[str, str]]  # `{metric: title}` before the first step
    list_panels: Callable[[TrainingArguments], list[curves.Panel]]

    def list_titles(self, config: TrainingArguments) -> dict[str, str]:
        """`{metric: title}` of the results, in their order."""
        return {
            **self.list_initial_losses(config),
            "train_loss": "loss, mean of all steps",
            "last_quarter/loss": "loss, mean of the last quarter of the steps",
            **{
                f"last_quarter/{name}": f"{words}, mean of the last quarter of the steps"
                for name, words in self.metrics.items()
            },
            "best_step": "step with the best evaluation, whose adapter was kept",
            "eval_loss": "held-out loss",
            **{f"eval_{name}": f"held-out {words}" for name, words in self.metrics.items()},
            f"{self.unit}_per_second": f"{self.unit} per second",
            "peak_memory_gb": "peak memory (GB)",
        }


DPO = TrainingMethod(
    name="DPO",
    unit="pairs",
    headline="aligned with DPO",
    trainer_class=ResumableDPOTrainer,
    find_warnings=dpo_health.find_dpo_warnings,
    unchecked_note=dpo_health.UNCHECKED_NOTE,
    metrics={"rewards/margins": "reward margin", "rewards/accuracies": "reward accuracy"},
    bar_metrics={"loss": "loss", "rewards/margins": "margin", "rewards/accuracies": "acc"},
    cards=(
        MetricCard("reward accuracy", "rewards/accuracies", "{:.0%}"),
        MetricCard("reward margin", "rewards/margins", "{:.3f}"),
    ),
    summary_settings=("learning_rate", "beta"),
    list_initial_losses=dpo_loss_types.list_titles,
    list_panels=lambda config: curves.list_dpo_panels(dpo_loss_types.uses_plain_dpo_loss(config)),
)
SFT = TrainingMethod(
    name="SFT",
    unit="dialogues",
    headline="trained with SFT",
    trainer_class=ResumableSFTTrainer,
    find_warnings=sft_health.find_sft_warnings,
    unchecked_note=sft_health.UNCHECKED_NOTE,
    metrics={"mean_token_accuracy": "token accuracy"},
    bar_metrics={"loss": "loss", "mean_token_accuracy": "token acc"},
    cards=(
        MetricCard("token accuracy", "mean_token_accuracy", "{:.1%}"),
        MetricCard("loss (nats a token)", "loss", "{:.3f}"),
    ),
    summary_settings=("learning_rate",),
    list_initial_losses=lambda config: {"initial_loss": f"{dpo_loss_types.TITLE}, on a few dialogues"},
    list_panels=lambda config: curves.SFT_PANELS,
)
