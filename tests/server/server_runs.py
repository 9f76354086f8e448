"""What the tests of runs with a server share."""

from pathlib import Path

from conftest import Tiny

IN_FLOAT32 = {"dtype": "float32"}


def evaluate_by_server(tiny: Tiny, output: Path, url: str, **changes) -> dict:
    """Args of an evaluation of `sft` against the bare base model."""
    values = tiny.evaluate(output, backend="transformers", bootstrap_resamples=100, from_pretrained=IN_FLOAT32)
    server = {"url": url, "model": "sft", "baseline_model": "base", "concurrency": 3}
    return values | {"generation_method": "server", "server": server} | changes
