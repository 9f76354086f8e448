"""Which emotion classifier chose the pairs that an adapter was trained on."""

from pathlib import Path

from response_generator.config.sources import is_local
from response_generator.runs.run_folder import read_json


def find_pair_classifier(adapter: str) -> str | None:
    """Follows the run folders on this machine, from the adapter to the pairs to their classifier.

    Returns:
        `scoring.emotion_model` of the run that built the pairs; None where one of these runs is not known.
    """
    pairs = read_json(Path(adapter).parent / "args.json").get("dataset", {}).get("path") if is_local(adapter) else None
    if pairs is None or not is_local(pairs):
        return None
    return read_json(Path(pairs).parent / "args.json").get("scoring", {}).get("emotion_model")
