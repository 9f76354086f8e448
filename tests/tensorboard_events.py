"""What TensorBoard shows of a run."""

from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def read_scalars(run: Path, name: str) -> list[tuple[int, float]]:
    """`(step, value)` of a metric, from all event files of the run folder."""
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(name)]
