"""Settings that only the libraries know: tried on next to nothing before the model is loaded."""

import pytest
from script_runs import run_here

import fine_tune_dpo
from response_generator.cli import training_preview
from response_generator.config.training_schema import DPOArguments
from response_generator.config.validation import validate_arguments
from response_generator.training import trainer_config


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("dpo.optim", "adamw_8bits", "adamw_8bits is not a valid OptimizerNames, please select one of"),
        ("dpo.lr_scheduler_type", "linaer", "linaer is not a valid SchedulerType"),
        ("dpo.lr_scheduler_kwargs", '{"foo": 1}', "unexpected keyword argument 'foo'"),
        ("dpo.torch_compile_backend", "nope", "'NOPE' is not a valid DynamoBackend"),
        ("dpo.loss_weights", "[1.0, 2.0]", "`loss_weights` must have the same length as `loss_type`"),
        (
            "from_pretrained.rope_scaling",
            '{"a": 1}',
            "from_pretrained.rope_scaling: the base cannot be built (KeyError",
        ),
        ("lora", '{"target_modules": "("}', "lora.target_modules: got '(' (string), which is no regular expression"),
        ("lora", '{"target_modules": ".*qq"}', "lora.target_modules: .*qq: the base model has no such module"),
        ("lora", '{"target_modules": ["qq"]}', "lora.target_modules: qq: the base model has no such module"),
    ],
)
def test_what_a_library_refuses_is_told_before_the_run_begins(tiny, tmp_path, capsys, key, value, words):
    values = tiny.dpo(tmp_path / "run") | ({"adapter": None} if key == "lora" else {})
    assert run_here(fine_tune_dpo.main, values, tmp_path, "--set", f"{key}={value}") == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_what_this_device_does_otherwise_is_told(tiny, tmp_path, capsys):
    values = tiny.dpo(tmp_path / "run")
    values["dpo"] |= {"optim": "adamw_8bit", "learning_rate": 1e-4, "warmup_steps": 100}
    arguments = validate_arguments(DPOArguments, values, "args.json")
    config = trainer_config.build_dpo_config(arguments)
    (line,) = trainer_config.find_changed_settings(arguments, config)
    assert line == "dpo.optim: adamw_8bit in the args, adamw_torch_fused is used on this device"
    training_preview.show_steps(12, "pairs", config)
    said = capsys.readouterr().out
    assert "warmup_steps (100) is more than the steps of the run: the learning rate never reaches 0.0001" in said
