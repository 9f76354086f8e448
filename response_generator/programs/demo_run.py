"""Makes the demo's models: the base model, and the classifiers that evaluate."""

from response_generator.demo.assets import MODELS, prepare_asset, show_accuracy
from response_generator.demo.base_model import write_base_model
from response_generator.demo.classifiers import write_emotion_classifier, write_encoder, write_gibberish_classifier
from response_generator.training.text_classifier import hide_warnings

WRITERS = (write_base_model, write_encoder, write_emotion_classifier, write_gibberish_classifier)


def prepare_models() -> None:
    hide_warnings()
    _, _, *classifiers = [prepare_asset(name, write) for name, write in zip(MODELS, WRITERS, strict=True)]
    for folder in classifiers:
        show_accuracy(folder)
