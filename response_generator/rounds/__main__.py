"""Rounds of pairs, DPO and evaluation, each from the replies of the adapter of the round before.

    python -m response_generator.rounds --json_file args/rounds_arg.json

Every round samples replies of the adapter so far to dialogues of its own, pairs them, trains on the pairs, and compares
the new adapter with the one that the first round started from. The rounds end when one of them brings no gain, or costs
more than the limits in the section stop allow. The best round within the limits is kept.

Leaves in output_dir: adapter/ (of the best round; none where no round is better), report.html, summary.md, rounds.png,
metrics.json, log.jsonl (a row a round), round-1/pairs, round-1/dpo, round-1/evaluation and so on (each the run folder
of its own program), args.json and environment.json.
"""

import signal
import sys

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C during the imports below ends without a traceback

from response_generator.cli import command_line
from response_generator.config.rounds.rounds_schema import RoundsArguments
from response_generator.config.rounds.stages import Stages
from response_generator.modeling.backend import import_backend
from response_generator.rounds.checks import check_environment


def main() -> None:
    parser, _ = command_line.build_parser(RoundsArguments, __doc__)
    parser.prog = "python -m response_generator.rounds"
    options = parser.parse_args()
    stages = Stages.of(command_line.read_arguments(RoundsArguments, options))
    run = check_environment(stages, options.args_files)
    if run.is_finished:
        print(run.describe_finished("report.html, summary.md and metrics.json"))
        return

    import_backend(stages.dpo.backend)  # unsloth has to be imported before transformers, trl and peft
    from response_generator.programs import rounds_run

    if options.dry_run:
        rounds_run.preview(stages)
    else:
        rounds_run.run_rounds(stages, run)


if __name__ == "__main__":
    sys.exit(command_line.run_main(main))
