"""Checkpoints in a run folder: which one a run is resumed from, and which cannot be used. No torch."""

from pathlib import Path
from typing import Any

from response_generator.config import strict_json
from response_generator.errors import InputError
from response_generator.runs import weights
from response_generator.runs.run_folder import RunFolder
from response_generator.training.checkpoints import checkpoint_files
from response_generator.training.checkpoints.checkpoint_files import RUN_IDENTITY_FILE, missing_files, parse_step


def checkpoint_folder(run: str | Path, step: int) -> Path:
    return Path(run, f"checkpoint-{step}")


def name_log_sums_file(checkpoint: Path, process: int, world_size: int) -> Path:
    """Where each process keeps the sums for its next log line, see `resume_callbacks.LogSumsCallback`."""
    return checkpoint / f"log_sums_{process}-of-{world_size}.json"


def find_last_checkpoint(run: Path) -> Path | None:
    """The newest checkpoint of a run that is complete and undamaged; None where there is none."""
    newest_first = reversed(checkpoint_files.list_checkpoints(run))
    return next((folder for folder in newest_first if not describe_unusable(folder)), None)


def describe_unusable(checkpoint: Path) -> str | None:
    """Why a run cannot be resumed from a checkpoint; None when it can."""
    missing = missing_files(checkpoint)
    if RUN_IDENTITY_FILE in missing:
        return f"{checkpoint.name}: writing it was interrupted; it is not used"
    reason = f"lacks {', '.join(missing)}" if missing else checkpoint_files.find_damage(checkpoint)
    return f"{checkpoint.name}: {reason}; it is not used" if reason else None


def find_best_checkpoint(checkpoint: Path) -> Path | None:
    """The checkpoint with the best evaluation up to `checkpoint`; None where there is none, or none any more.

    transformers stores an absolute path, but the run folder may have been moved; the best one is beside `checkpoint`.
    """
    state = strict_json.parse_json((checkpoint / checkpoint_files.STATE_FILE).read_text("utf-8"), allow_nan=True)
    if state["best_model_checkpoint"] is None:
        return None
    best = checkpoint.with_name(Path(state["best_model_checkpoint"]).name)
    return None if missing_files(best) else best


def find_next_step(run: Path) -> int:
    """The first step that a start of this run takes: the one after its last checkpoint."""
    checkpoint = find_last_checkpoint(run)
    return parse_step(checkpoint) + 1 if checkpoint else 0


def check_run_identity(run: RunFolder, run_identity: dict[str, Any]) -> None:
    """Compares the args, weights and data of the last checkpoint with those of this run. A checkpoint of an earlier
    version of this program does not name its weights.

    Raises:
        InputError: when the checkpoint belongs to another run, or does not say to which.
    """
    checkpoint = find_last_checkpoint(run.path)
    if checkpoint is None:
        return
    written = strict_json.read_object(checkpoint / RUN_IDENTITY_FILE)
    weights_then, weights_now = written.get("weights", {}), run_identity.get("weights", {})
    if not isinstance(written.get("arguments"), dict) or not isinstance(weights_then, dict):
        raise InputError(
            f"output_dir: {checkpoint / RUN_IDENTITY_FILE}: has changed since it was written; restore it, or remove "
            f"this checkpoint, and the run goes on from the one before"
        )
    changed = weights.find_changes(weights_then, weights_now, run.sources)
    if changed:
        raise InputError(*changed)
    written["arguments"] = run.translate(written["arguments"], weights_then)
    different = sorted(key for key in ("arguments", "data") if written.get(key) != run_identity[key])
    if different:
        raise InputError(
            f"output_dir: {checkpoint}: belongs to a run with other {' and '.join(different)}, so this run cannot be "
            f"resumed from it; name another folder"
        )


def find_unusable(run: Path) -> list[Path]:
    """Checkpoints that are newer than the last one that can be used; oldest first."""
    last = find_last_checkpoint(run)
    last_step = parse_step(last) if last else -1
    return [folder for folder in checkpoint_files.list_checkpoints(run) if parse_step(folder) > last_step]


def remove_unusable(run: Path) -> None:
    """Removes checkpoints that cannot be used; the steps that they are of are taken again."""
    for folder in find_unusable(run):
        checkpoint_files.remove(folder)


def describe_not_finite(name: str, value: float, args, state) -> str:
    """The message of a run that is stopped by NaN or infinity, from transformers' arguments and state."""
    return (
        f"step {state.global_step + 1}: the {name} is {value}; stopped before the weights were changed. Usual causes: "
        f"learning_rate ({args.learning_rate:g}) is too high, or fp16 overflows (use bf16). Last good checkpoint: "
        f"{find_last_checkpoint(Path(args.output_dir)) or 'none'}"
    )
