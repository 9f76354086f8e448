"""The private members of libraries that the program uses. A new version may change them without notice, so each needs a
reason beside it in the code, and no public way."""

import ast

from conftest import ROOT

PRIVATE_MEMBERS = {
    "_attn_implementation",
    "_commit_hash",
    "_get_default_generation_params",
    "_get_train_sampler",
    "_globalstep_last_logged",
    "_load_optimizer_and_scheduler",
    "_metrics",
    "_n_gpu",
    "_prepare_dataset",
    "_total_loss_scalar",
    "_total_train_tokens",
    "_tr_loss",
    "_unsloth_fast_path",
}


def find_private_names(node: ast.AST) -> list[str]:
    """The private names of other classes and modules that a piece of code reads, sets, asks for or overrides."""
    if isinstance(node, ast.Attribute) and ast.unparse(node) != "os._exit":  # documented in spite of its name
        return [node.attr]
    if isinstance(node, ast.FunctionDef):
        return [node.name]
    if isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "hasattr", "setattr"):
        return [node.args[1].value] if isinstance(node.args[1], ast.Constant) else []
    return []


def test_private_members_are_few_and_known():
    trees = [ast.parse(file.read_text(encoding="utf-8")) for file in (ROOT / "response_generator").rglob("*.py")]
    names = {name for tree in trees for node in ast.walk(tree) for name in find_private_names(node)}
    assert {name for name in names if name.startswith("_") and not name.startswith("__")} == PRIVATE_MEMBERS
