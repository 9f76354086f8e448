"""Regular expressions of an adapter's configuration are tried before PEFT uses them: some take hours."""

import pytest

from response_generator.modeling import module_patterns

NAMES = [
    f"model.layers.{layer}.{name}"
    for layer in range(32)
    for name in ("self_attn.q_proj", "self_attn.o_proj", "mlp.down_proj", "input_layernorm")
]
# As unsloth writes it into the configurations of its adapters.
UNSLOTH = (
    r"(?:.*?(?:language|text).*?(?:self_attn|attention|mlp|ffn).*?(?:k_proj|v_proj|q_proj|o_proj|down_proj).*?)"
    r"|(?:\bmodel\.layers\.[\d]{1,}\.(?:self_attn|attention|mlp|ffn)\.(?:(?:k_proj|v_proj|q_proj|o_proj|down_proj)))"
)


@pytest.mark.parametrize(
    "config",
    [
        {"target_modules": UNSLOTH, "exclude_modules": r".*\.31\..*", "rank_pattern": {r".*\.q_proj": 8}},
        {"target_modules": "all-linear", "modules_to_save": ["lm_head"], "alpha_pattern": {"layers.0.mlp": 4}},
        {"target_modules": ["(", "(.+)+x"], "exclude_modules": ["("]},  # names, not patterns
        {"target_modules": None, "modules_to_save": 3, "layers_pattern": {"a": 1}, "rank_pattern": [1]},
    ],
)
def test_usual_patterns_and_what_peft_itself_refuses(config):
    assert module_patterns.find_pattern_errors(config, NAMES) == []


@pytest.mark.parametrize(
    ("config", "key", "reason"),
    [
        ({"target_modules": "("}, "target_modules", "no regular expression: missing )"),
        ({"exclude_modules": "*"}, "exclude_modules", "no regular expression: nothing to repeat"),
        ({"target_modules": "a{99999999999999}"}, "target_modules", "the repetition number is too large"),
        ({"target_modules": "(" * 100_000}, "target_modules", "maximum recursion depth exceeded"),
        ({"modules_to_save": ["lm_head", "("]}, "modules_to_save", "no regular expression: missing )"),
        ({"alpha_pattern": {"q_proj": 2, ")": 3}}, "alpha_pattern", "no regular expression: unbalanced parenthesis"),
    ],
)
def test_what_is_no_pattern(config, key, reason):
    (message,) = module_patterns.find_pattern_errors(config, NAMES)
    assert message.startswith(f"{key}: got ") and reason in message


@pytest.mark.parametrize(
    "config",
    [
        {"exclude_modules": ".*norm", "target_modules": "(.+)+x"},
        {"layers_pattern": ["layers", "(.+)+x"]},
        {"rank_pattern": {".*q_proj": 4, "(.+)+x": 4}},
    ],
)
def test_a_pattern_that_would_take_hours(monkeypatch, config):
    monkeypatch.setattr(module_patterns, "TIMEOUT_SECONDS", 2.0)
    (message,) = module_patterns.find_pattern_errors(config, NAMES)
    key = list(config)[-1]
    assert message.startswith(f"{key}: got '(") and "which takes more than 2 seconds" in message
