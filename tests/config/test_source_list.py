"""Every model, adapter and data set that the args of a program name is listed once, with the key that names it."""

from response_generator.config.chat_schema import ChatArguments
from response_generator.config.preference_schema import DescriptionArguments
from response_generator.config.schema import EvaluateArguments
from response_generator.config.source_list import list_sources
from response_generator.config.sources import SourceKind
from response_generator.config.training_schema import ClassifierArguments, DPOArguments
from response_generator.config.validation import validate_arguments

SCORING = {"emotion_model": "owner/emotion", "gibberish_model": "owner/gibberish"}
CLASSIFIERS = [
    ("scoring.emotion_model", "owner/emotion", SourceKind.CLASSIFIER),
    ("scoring.gibberish_model", "owner/gibberish", SourceKind.CLASSIFIER),
]


def list_of(model, values: dict) -> list[tuple]:
    sources = list_sources(validate_arguments(model, values, "args.json"))
    return [(source.key, source.name, source.kind) for source in sources]


def test_dpo_with_every_section(tiny, tmp_path):
    values = tiny.dpo(
        tmp_path / "run",
        base_model="owner/base",
        adapter="owner/adapter@v1",
        reference_adapter="owner/reference",
        dataset={"path": "owner/pairs", "revision": "v2"},
        eval_dataset={"path": "owner/held_out@v3"},
        scoring=SCORING,
        export={"path": str(tmp_path / "merged"), "base_model": "owner/base_16bit"},
    )
    assert list_of(DPOArguments, values) == [
        ("base_model", "owner/base", SourceKind.BASE_MODEL),
        *CLASSIFIERS,
        ("export.base_model", "owner/base_16bit", SourceKind.EXPORT_BASE),
        ("adapter", "owner/adapter@v1", SourceKind.ADAPTER),
        ("reference_adapter", "owner/reference", SourceKind.ADAPTER),
        ("dataset", "owner/pairs@v2", SourceKind.DATASET),
        ("eval_dataset", "owner/held_out@v3", SourceKind.DATASET),
    ]


def test_sections_that_are_null_name_nothing(tiny, tmp_path):
    values = tiny.dpo(tmp_path / "run", adapter=None, lora={}, reference_adapter=None, eval_dataset=None, export=None)
    assert [key for key, _, _ in list_of(DPOArguments, values)] == ["base_model", "dataset"]


def test_only_a_baseline_may_be_the_bare_base_model(tiny, tmp_path):
    preferences = {"dataset": {"path": "owner/pairs"}, "beta": 0.1}
    values = tiny.evaluate(tmp_path / "run", adapter="none", baseline_adapter="none", heldout_pairs=preferences)
    sources = {key: (name, kind) for key, name, kind in list_of(EvaluateArguments, values)}
    assert sources["adapter"] == ("none", SourceKind.ADAPTER)
    assert sources["heldout_pairs.dataset"] == ("owner/pairs", SourceKind.DATASET)
    assert "baseline_adapter" not in sources
    values["baseline_adapter"] = "owner/baseline"
    assert ("baseline_adapter", "owner/baseline", SourceKind.ADAPTER) in list_of(EvaluateArguments, values)


def test_a_chat_names_several_adapters(tiny, tmp_path):
    values = tiny.evaluate(tmp_path / "run", base_model="owner/base", scoring=SCORING)
    shared = {key: value for key, value in values.items() if key in ChatArguments.model_fields}
    assert list_of(ChatArguments, shared | {"adapters": {"DPO": "owner/dpo", "base": "none", "SFT": "owner/sft"}}) == [
        ("base_model", "owner/base", SourceKind.BASE_MODEL),
        *CLASSIFIERS,
        ("adapters.DPO", "owner/dpo", SourceKind.ADAPTER),
        ("adapters.SFT", "owner/sft", SourceKind.ADAPTER),
    ]


def test_an_evaluation_names_a_second_classifier_and_a_language_model(tiny, tmp_path):
    more = {"second_emotion_model": "owner/second", "fit_model": "owner/plain@v1", "emotion_words": "words.json"}
    values = tiny.evaluate(tmp_path / "run", base_model="owner/base", adapter="owner/adapter", scoring=SCORING | more)
    assert list_of(EvaluateArguments, values)[:5] == [
        ("base_model", "owner/base", SourceKind.BASE_MODEL),
        *CLASSIFIERS,
        ("scoring.second_emotion_model", "owner/second", SourceKind.CLASSIFIER),
        ("scoring.fit_model", "owner/plain@v1", SourceKind.LANGUAGE_MODEL),
    ]


def test_programs_without_a_base_model_to_generate_with(tmp_path):
    data = {"path": "owner/dialogues"}
    values = {"output_dir": str(tmp_path), "seed": 1, "base_model": "owner/encoder", "trainer": {}}
    values |= {"datasets": [data, {"path": "owner/texts", "revision": "v2"}], "eval_datasets": {"A test": data}}
    values["calibration"] = {"dataset": data}
    assert list_of(ClassifierArguments, values) == [
        ("base_model", "owner/encoder", SourceKind.PRETRAINED_MODEL),
        ("datasets.0", "owner/dialogues", SourceKind.DATASET),
        ("datasets.1", "owner/texts@v2", SourceKind.DATASET),
        ("eval_datasets.A test", "owner/dialogues", SourceKind.DATASET),
        ("calibration.dataset", "owner/dialogues", SourceKind.DATASET),
    ]
    assert list_of(DescriptionArguments, {"dataset": {"path": "owner/pairs"}, "scoring": SCORING}) == [
        *CLASSIFIERS,
        ("dataset", "owner/pairs", SourceKind.DATASET),
    ]
