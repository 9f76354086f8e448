"""Prepares the demo's models, once: `python -m response_generator.demo`.

Writes into assets/: the base model, the encoder of the classifiers, the two classifiers that evaluate, and the two that
choose pairs and replies. Models that are already there are kept; one that was interrupted is made again.
"""

import sys
from argparse import ArgumentParser

from response_generator.cli import command_line
from response_generator.modeling.backend import import_backend
from response_generator.runs import library_output


def main() -> None:
    parser = ArgumentParser("python -m response_generator.demo", description=__doc__)
    command_line.add_verbose(parser)
    library_output.set_verbose(parser.parse_args().verbose)

    import_backend("transformers")
    from response_generator.programs import demo_run

    demo_run.prepare_models()


if __name__ == "__main__":
    sys.exit(command_line.run_main(main))
