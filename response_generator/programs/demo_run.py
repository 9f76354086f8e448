"""Makes the demo's models: the base model, the classifiers that evaluate, and those that choose pairs and replies."""

from functools import partial

from response_generator.demo.assets import ASSETS, prepare_asset, show_accuracy
from response_generator.demo.base_model import write_base_model
from response_generator.demo.classifiers import write_emotion_classifier, write_encoder, write_gibberish_classifier
from response_generator.demo.pair_classifiers import NAMES, write_classifier
from response_generator.training.text_classifier import hide_warnings

WRITERS = {
    "base_model": write_base_model,
    "encoder": write_encoder,
    "emotion_classifier": write_emotion_classifier,
    "gibberish_classifier": write_gibberish_classifier,
    **{name: partial(write_classifier, name) for name in NAMES},
}


def prepare_models() -> None:
    hide_warnings()
    if not all((ASSETS / name).exists() for name in WRITERS):
        print("preparing the demo's models (once, about two minutes on two cores)", flush=True)
    _, _, *classifiers = [prepare_asset(name, write) for name, write in WRITERS.items()]
    for folder in classifiers:
        show_accuracy(folder)
