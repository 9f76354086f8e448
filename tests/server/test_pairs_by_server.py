"""Preference pairs from candidates of a server."""

from script_runs import run_here
from server_runs import IN_FLOAT32

from response_generator.preferences import __main__ as preferences


def pairs_by_server(tiny, output, url: str, **changes) -> dict:
    values = tiny.preferences(output, backend="transformers", from_pretrained=IN_FLOAT32)
    server = {"url": url, "model": "sft", "concurrency": 3}
    return values | {"generation_method": "server", "server": server} | changes


def built_here(values: dict, folder, *options: str) -> int:
    return run_here(preferences.main, values | {"output_dir": str(folder)}, folder.parent, *options)


def test_pairs_are_built(tiny, model_server, tmp_path):
    values = pairs_by_server(tiny, tmp_path, model_server.url)
    assert built_here(values, tmp_path / "run") == 0
    print(sorted(each.name for each in (tmp_path / "run" / "candidates").iterdir()))
