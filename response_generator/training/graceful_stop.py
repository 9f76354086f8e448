"""Ctrl-C and SIGTERM while training: the step in progress is finished, a checkpoint saved, and the run ends."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from accelerate import Accelerator
from tqdm.auto import tqdm
from transformers import TrainerCallback, TrainerState

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class GracefulStopCallback(TrainerCallback):
    """Turns a signal into a checkpoint and an end; a second one ends a single process at once."""

    def __init__(self, accelerator: Accelerator):
        self.accelerator = accelerator
        self.asked = False  # this process got a signal
        self.stopping = False  # all processes agree to stop after this step

    @contextmanager
    def handle_signals(self) -> Iterator[None]:
        earlier = {number: signal.signal(number, self.receive) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in earlier.items():
                signal.signal(number, handler)

    def receive(self, number: int, frame) -> None:
        if self.asked and self.accelerator.num_processes == 1:
            raise KeyboardInterrupt
        self.asked = True
        name = signal.Signals(number).name
        tqdm.write(f"\n{name}: this step is finished, then a checkpoint is saved; wait", file=sys.stderr)

    def on_step_end(self, args, state, control, **kwargs):
        self.stopping = self.all_ranks_agree_to_stop()
        if self.stopping and not is_epoch_end(state):
            control.should_save = True

    def all_ranks_agree_to_stop(self) -> bool:
        """Signals reach the processes at different steps; a checkpoint needs all of them at one."""
        if self.accelerator.num_processes == 1:
            return self.asked
        if self.asked:
            self.accelerator.set_trigger()
        return self.accelerator.check_trigger()

    def on_save(self, args, state, control, **kwargs):
        # Only now: a checkpoint that held "stop" would be that of a run which has come to its end.
        if self.stopping:
            control.should_training_stop = True

    def on_epoch_end(self, args, state, control, **kwargs):
        if self.stopping and is_epoch_end(state):
            control.should_save = True  # after what belongs to an epoch's end: a resumed run begins with the next one
        elif self.stopping:
            # The loop ends an epoch here that has not ended; what belongs to its end waits for the resumed run.
            control.should_save = control.should_evaluate = control.should_log = False


def is_epoch_end(state: TrainerState) -> bool:
    return state.epoch == int(state.epoch)
