"""Prepares the demo's models, once: `python -m response_generator.demo`.

Writes the base model, the encoder of the classifiers, the emotion classifier and the gibberish classifier into assets/.
Models that are already there are kept; one that was interrupted is made again.
"""

import sys
from argparse import ArgumentParser

from response_generator.cli import command_line
from response_generator.demo.assets import ASSETS, prepare_asset, show_accuracy
from response_generator.runs import library_output


def main() -> None:
    parser = ArgumentParser("python -m response_generator.demo", description=__doc__)
    command_line.add_verbose(parser)
    library_output.set_verbose(parser.parse_args().verbose)
    names = ("base_model", "encoder", "emotion_classifier", "gibberish_classifier")
    if not all((ASSETS / name).exists() for name in names):
        print("preparing the demo's models (once, about two minutes on two cores)", flush=True)

    library_output.silence_loggers()
    import transformers

    from response_generator.demo.base_model import write_base_model
    from response_generator.demo.classifiers import (
        write_emotion_classifier,
        write_encoder,
        write_gibberish_classifier,
    )

    library_output.hide_progress_bars()
    if not library_output.is_verbose():
        transformers.logging.set_verbosity_error()
    writers = (write_base_model, write_encoder, write_emotion_classifier, write_gibberish_classifier)
    _, _, *classifiers = [prepare_asset(name, write) for name, write in zip(names, writers, strict=True)]
    for folder in classifiers:
        show_accuracy(folder)


if __name__ == "__main__":
    sys.exit(command_line.run_main(main))
