"""Ctrl-C, SIGTERM and SIGHUP during training: the current step is finished, a checkpoint is saved, and the run ends."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from accelerate import Accelerator
from transformers import TrainerCallback, TrainerState

from response_generator.runs.stop_signals import list_stop_signals
from response_generator.training.checkpoints import checkpoint_files, checkpointing


class GracefulStopCallback(TrainerCallback):
    """Saves and stops after the first signal. A second signal ends a single process at once.

    `signal_received` is of this process; `stopping` is set when all processes agree to stop after the current step.
    """

    def __init__(self, accelerator: Accelerator):
        self.accelerator = accelerator
        self.signal_received = False
        self.stopping = False

    @contextmanager
    def handle_signals(self) -> Iterator[None]:
        earlier = {number: signal.signal(number, self.receive) for number in list_stop_signals()}
        try:
            yield
        finally:
            for number, handler in earlier.items():
                signal.signal(number, handler)

    def receive(self, number: int, frame) -> None:
        if self.signal_received and self.accelerator.num_processes == 1:
            raise KeyboardInterrupt
        self.signal_received = True
        name = signal.Signals(number).name
        with suppress(OSError):  # the terminal whose end sends SIGHUP takes no more lines
            print(f"{name}: finishing this step and saving a checkpoint; please wait", file=sys.stderr)

    def on_step_end(self, args, state, control, **kwargs):
        self.stopping = self.all_ranks_agree_to_stop()
        if self.stopping and not is_epoch_end(state):
            control.should_save = True

    def all_ranks_agree_to_stop(self) -> bool:
        """Signals reach the processes at different steps, but a checkpoint needs all of them at the same one."""
        if self.accelerator.num_processes == 1:
            return self.signal_received
        if self.signal_received:
            self.accelerator.set_trigger()
        return self.accelerator.check_trigger()

    def on_save(self, args, state, control, **kwargs):
        # Stop only after saving: the flag is stored in the checkpoint, and stored as true it marks the run as finished.
        if self.stopping:
            control.should_training_stop = True

    def on_epoch_end(self, args, state, control, **kwargs):
        if not self.stopping:
            return
        if not is_epoch_end(state):
            # Stopped in the middle of an epoch: what belongs to its end is left to the resumed run.
            control.should_save = control.should_evaluate = control.should_log = False
        elif checkpoint_files.missing_files(checkpointing.checkpoint_folder(args.output_dir, state.global_step)):
            control.should_save = (
                True  # after the epoch's evaluation and log line, so a resumed run starts with the next
            )
        else:
            control.should_training_stop = True  # this step is saved already


def is_epoch_end(state: TrainerState) -> bool:
    return state.epoch == int(state.epoch)
