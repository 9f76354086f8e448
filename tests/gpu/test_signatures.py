"""Every keyword that the program passes is one that the pinned libraries take: some calls run on a card alone."""

import ast
import importlib
import inspect

import peft
import transformers
from conftest import ROOT

LIBRARIES = ("transformers", "trl", "peft")
OWNERS = (
    transformers.PreTrainedModel,
    transformers.PreTrainedTokenizerBase,
    transformers.Trainer,
    transformers.GenerationMixin,
    peft.PeftModel,
)


def library_calls() -> list[tuple[str, str, list, set[str]]]:
    """`(place, name, callables it may be, keywords)` of every call with keywords that can reach one of the libraries:
    names imported from them, and methods that one of their classes has."""
    found = []
    for file in [*sorted((ROOT / "response_generator").rglob("*.py")), *ROOT.glob("*.py")]:
        tree = ast.parse(file.read_text(encoding="utf-8"))
        imported, own = {}, set()
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in LIBRARIES:
                module = importlib.import_module(node.module)
                imported |= {name.name: getattr(module, name.name) for name in node.names}
            elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("response_generator"):
                own |= {name.name for name in node.names}
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            keywords = {keyword.arg for keyword in call.keywords if keyword.arg}
            callables = called(call.func, imported)
            if (
                keywords
                and callables
                and ast.unparse(call.func).partition(".")[0] not in own
                and ast.unparse(call.func) not in ("self.tracker.log", "run.log")
            ):  # wandb's
                found.append((f"{file.name}:{call.lineno}", ast.unparse(call.func), callables, keywords))
    return found


def called(function: ast.expr, imported: dict) -> list:
    if isinstance(function, ast.Name):
        return [imported[function.id]] if function.id in imported else []
    if not isinstance(function, ast.Attribute):
        return []
    owner = function.value.id if isinstance(function.value, ast.Name) else None
    owners = [imported[owner]] if owner in imported else OWNERS
    return [getattr(kind, function.attr) for kind in owners if hasattr(kind, function.attr)]


# Named in no signature: the methods pass them on.
PASSED_ON = {
    "from_pretrained": {"dtype", "trust_remote_code", "id2label", "label2id", "num_labels"},  # configuration and hub
    "from_config": {"trust_remote_code"},
    "decode": {"clean_up_tokenization_spaces"},  # the tokenizer's backend
    "SFTTrainer": {"model", "processing_class", "train_dataset"},  # which unsloth has wrapped
    "generate": {"input_ids", "attention_mask"},  # the model's inputs
    "PreTrainedTokenizerFast": {"tokenizer_object"},  # read from its keywords
    "GenerationConfig": {"pad_token_id", "eos_token_id"},  # its attributes
}


def accepts(callable_, keyword: str) -> bool:
    return keyword in inspect.signature(callable_).parameters


def test_every_keyword_is_in_the_pinned_signatures():
    calls = library_calls()
    names = {name for _, name, _, _ in calls}
    assert {"LoraConfig", "policy.load_adapter", "model.save_pretrained", "trainer.train"} <= names
    unknown = [
        f"{place} {name}({keyword}=)"
        for place, name, callables, keywords in calls
        for keyword in keywords
        if keyword not in PASSED_ON.get(name.rpartition(".")[2], ())
        and not any(accepts(callable_, keyword) for callable_ in callables)
    ]
    assert unknown == []
