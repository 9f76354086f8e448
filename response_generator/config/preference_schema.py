"""The arguments of `python -m response_generator.preferences`, in the same form as those in schema.py."""

from typing import Literal

from pydantic import Field

from response_generator.config.dataset_schema import FilterArguments, FilteredPairDatasetArguments
from response_generator.config.library.key_rule import MAX_COUNT, MAX_SAMPLES_PER_PROMPT
from response_generator.config.schema import GenerationArguments, HubArguments, LabelArguments
from response_generator.config.scoring_schema import FitScoringArguments, RewardArguments, ScoringArguments
from response_generator.config.section import AdapterName, LocalPath, integer_or

ALL_TURNS = "all"


class PreferenceDataArguments(GenerationArguments):
    adapter: AdapterName
    """LoRA adapter whose replies are compared: hub id or folder."""
    history_turns: integer_or(ALL_TURNS, MAX_COUNT) = 5
    """Turns of a dialogue before the reply, an odd number; earlier turns are left out; "all": all turns."""
    keep_short_dialogues: bool = False
    """true: also use dialogues that have fewer turns than that. false: stop with an error that lists them."""
    windows: Literal["last", "all"] = "last"
    """`last`: one prompt per dialogue, for its last reply; `all`: one for each reply of the assistant."""
    target_emotions: Literal["gold", "balanced"] = "gold"
    """`gold`: a reply is to have the label of the dialogue's own reply; `balanced`: each of the labels is the target of
    equally many prompts, drawn with `seed`, whatever the dialogue's own reply has."""
    candidates: int = Field(default=6, ge=2, le=MAX_SAMPLES_PER_PROMPT)
    """Replies sampled for a prompt in one attempt."""
    max_attempts: int = Field(default=30, ge=1, le=MAX_SAMPLES_PER_PROMPT)
    """How often a prompt is tried until it has a pair that passes the filters."""
    scoring: FitScoringArguments = FitScoringArguments()
    """The emotion classifier, the gibberish classifier and the language model that the reward is made of."""
    reward: RewardArguments = RewardArguments()
    """The score of a reply."""
    filters: FilterArguments = FilterArguments()
    """Filters that a pair has to pass, or else the prompt is tried again; `drop_duplicates` and `max_pairs_per_prompt`
    apply to the finished data."""
    pair_selection: Literal["best_worst", "best_passing", "all", "best_random_failing", "diverse"] = "best_worst"
    """`best_worst`: the best and the worst candidate of an attempt; `all`: every two candidates that pass the filters;
    `best_passing`: of these the two with the greatest margin, so that a strict filter costs fewer attempts.
    `best_random_failing`: the best that passes the filters of chosen, and a random one without the target emotion.
    `diverse`: the most diverse of the good ones, and the least diverse of the others (DivPO)."""
    gold_as_chosen: bool = False
    """true: the dialogue's own reply is the chosen one, whatever the candidates' scores."""
    push_to_hub: HubArguments | None = None
    """Hub data set to upload the finished pairs to, with the token in HF_TOKEN; null: no upload."""


class DescriptionArguments(LabelArguments):
    """Arguments of `python -m response_generator.preferences --describe`."""

    output_dir: LocalPath = "preference_report"
    """Folder of the report."""
    dataset: FilteredPairDatasetArguments
    """The preference pairs."""
    scoring: ScoringArguments | None = None
    """Classifiers for filters on emotion and gibberish, where the pairs have no labels of their own; null: none."""
    required_markers: list[str] = ["[INST]", "[/INST]", "[EMOTION]", "[/EMOTION]"]
    """Strings that every prompt that is text should contain."""
