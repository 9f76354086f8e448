"""Facts that several folders need: names of labels, sides, adapters, models and files of a run."""

import re

CLEAN = "clean"  # the label of the gibberish classifier for a good reply
SIDES = ("chosen", "rejected")  # of a preference pair

# Names of LoRA adapters on a model in training: TRL trains no adapter but "default", and takes no frozen reference but
# the one called "ref".
POLICY_ADAPTER = "default"
REFERENCE_ADAPTER = "ref"

# Names of the two models of an evaluation, in predictions.jsonl and metrics.json.
ADAPTER, BASELINE = "adapter", "baseline"
BEST_OF = " best of "  # between the name of a model and a number: a row with the best of so many replies
BEST_OF_NAME = re.compile(rf"(.*){BEST_OF}(\d+)", re.DOTALL)

# Files of an evaluation's run folder.
PREDICTIONS_FILE = "predictions.jsonl"
CANDIDATES_FILE = "candidates.jsonl"
PAIR_LOGPS_FILE = "pair_logps.jsonl"
THROUGHPUT_FILE = "throughput.jsonl"

# Files of a run that builds preference data.
PREFERENCES_FILE = "preferences.jsonl"
CANDIDATES_FOLDER = "candidates"
FAILED_PROMPTS_FILE = "failed_prompts.jsonl"
