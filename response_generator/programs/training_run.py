"""What the runs of DPO and SFT share: the tracker, and the trainer with what watches it."""

from peft import PeftModel

from response_generator.cli import commits
from response_generator.config.training_schema import AdapterTrainingArguments
from response_generator.modeling.base_model import describe_model
from response_generator.runs.run_folder import RunFolder
from response_generator.runs.tracking import Tracker
from response_generator.training import trainer_setup
from response_generator.training.checkpoints import checkpointing
from response_generator.training.monitoring.health import TrainingHealthCallback
from response_generator.training.monitoring.log_file import LogFile
from response_generator.training.monitoring.progress_bar import ProgressBar
from response_generator.training.monitoring.samples import SampleReplies
from response_generator.training.monitoring.step_files import LOG_FILE, SAMPLES_FILE, WARNINGS_FILE
from response_generator.training.preparation import PreparedTraining
from response_generator.training.trainer_config import build_early_stopping
from response_generator.training.trl_trainers import ResumableTrainer


def start_run(args: AdapterTrainingArguments, run: RunFolder) -> Tracker:
    """Writes the first files of the run folder."""
    run.start()
    first_step = checkpointing.find_next_step(run.path)
    return Tracker.start(args.wandb, run.path, run.arguments, first_step if args.tensorboard else None)


def build_trainer(
    args: AdapterTrainingArguments, run: RunFolder, prepared: PreparedTraining, policy: PeftModel, tracker: Tracker
) -> tuple[ResumableTrainer, SampleReplies]:
    """Builds the method's trainer, with its log, progress bar, warnings, early stopping and sample replies;
    environment.json gets what the policy was loaded from."""
    run.note_environment(describe_model(policy))
    run.note_commits(commits.find_adapter_and_dataset_commits(args))
    method = prepared.method
    progress = ProgressBar(len(prepared.train.rows), method.unit, method.bar_metrics)
    trainer = trainer_setup.build_trainer(
        method.trainer_class,
        policy,
        prepared.tokenizer,
        prepared.config,
        prepared.train,
        prepared.held_out,
        callbacks=[
            LogFile(run.path / LOG_FILE, tracker),
            progress,
            TrainingHealthCallback(method.find_warnings, run.path / WARNINGS_FILE),
            *build_early_stopping(args.trl_settings),
        ],
        run_identity=prepared.identify_run(run),
        save_total_limit=args.trl_settings.get("save_total_limit"),
    )
    file = run.path / SAMPLES_FILE
    sample_replies = SampleReplies(
        trainer, prepared.sample_requests, args.sample_replies, args.seed, file, tracker, progress
    )
    trainer.add_callback(sample_replies)
    return trainer, sample_replies
