"""The real clients against the hub of these tests: what comes from which commit, and what is not there."""

import json
import shutil
import subprocess
import sys

import httpx
import pyarrow
import pyarrow.parquet
import pytest
from conftest import ROOT, script_environment
from local_hub import LocalHub, Request

OLD, NEW, ABSENT = "1" * 40, "2" * 40, "3" * 40
ROWS = {OLD: ["a row"], NEW: ["another", "and one more"]}
PARQUET = "data/train-00000-of-00001.parquet"

PROBE = """
import json, sys

from huggingface_hub import HfApi, hf_hub_download, snapshot_download, try_to_load_from_cache
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

import datasets


def name_error(function, *values, **named):
    try:
        return function(*values, **named) and "no error"
    except Exception as error:
        return type(error).__name__


def read_files(kind, revision):
    folder = snapshot_download("owner/" + kind, repo_type=kind, revision=revision, allow_patterns=["*.txt", "data/*"])
    return {"folder": folder, "text": open(folder + "/which.txt").read(), "rows": datasets.load_dataset(
        folder, split="train")["text"][:] if kind == "dataset" else None}


def read_model(revision):
    named = {"revision": revision}
    model = AutoModelForCausalLM.from_pretrained("owner/model", **named)
    classifier = AutoModelForSequenceClassification.from_pretrained("owner/classifier", **named)
    return {
        "commits": [AutoConfig.from_pretrained("owner/model", **named)._commit_hash, model.config._commit_hash,
                    classifier.config._commit_hash],
        "theta": model.config.rope_parameters["rope_theta"],
        "ids": AutoTokenizer.from_pretrained("owner/model", **named)("Thank you .").input_ids,
        "cached": try_to_load_from_cache("owner/model", "config.json", revision=revision),
    }


def read_rows(revision):
    rows = datasets.load_dataset("owner/dataset", split="train", revision=revision)
    return {"rows": rows["text"][:], "files": [file["filename"] for file in rows.cache_files]}


def ask(old, new, absent):
    api = HfApi()
    infos = [api.repo_info("owner/model", revision=revision) for revision in (None, "main", "v1", old, new)]
    yield "infos", [info.sha for info in infos]
    yield "siblings", [sibling.rfilename for sibling in infos[0].siblings]
    yield "dataset", api.repo_info("owner/dataset", repo_type="dataset", revision="v1").sha
    yield "history", [commit.commit_id for commit in api.list_repo_commits("owner/model")]
    yield "access", api.auth_check("owner/model")
    yield "exists", [api.file_exists("owner/model", name) for name in ("config.json", "absent.json")]
    yield "errors", {
        "repository": [name_error(api.repo_info, "owner/absent"), name_error(snapshot_download, "owner/absent"),
                       name_error(hf_hub_download, "owner/absent", "config.json")],
        "revision": [name_error(api.repo_info, "owner/model", revision=old[:7]),
                     name_error(snapshot_download, "owner/model", revision=absent),
                     name_error(hf_hub_download, "owner/model", "config.json", revision="absent")],
        "file": [name_error(hf_hub_download, "owner/model", "absent.json", revision=old),
                 name_error(hf_hub_download, "owner/dataset", "which.json", repo_type="dataset")],
        "gated": [name_error(hf_hub_download, "owner/gated", "config.json", token=token)
                  for token in (False, "hf_other", "hf_reader")] + [name_error(api.auth_check, "owner/gated")],
        "data set": [name_error(datasets.load_dataset, "owner/absent"),
                     name_error(datasets.load_dataset, "owner/dataset", revision=absent)],
    }


old, new, absent, asking = sys.argv[1:]
found = dict(ask(old, new, absent)) if asking == "ask" else {}
found["files"] = {f"{kind} {revision}": read_files(kind, revision)
                  for kind in ("model", "dataset") for revision in (old, "main")}
found["models"] = {revision: read_model(revision) for revision in (old, "main")}
found["rows"] = {revision: read_rows(revision) for revision in ("main", "v1", old)}
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def hub(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("repositories")
    for commit in (OLD, NEW):
        for kind, source in {"model": tiny.base, "classifier": tiny.folder / "emotion"}.items():
            shutil.copytree(source, folder / kind / commit)
        (folder / "dataset" / commit / "data").mkdir(parents=True)
        pyarrow.parquet.write_table(pyarrow.table({"text": ROWS[commit]}), folder / "dataset" / commit / PARQUET)
        for kind in ("model", "dataset"):
            (folder / kind / commit / "which.txt").write_text(commit, encoding="utf-8")
    config = json.loads((folder / "model" / OLD / "config.json").read_text(encoding="utf-8"))
    config["rope_parameters"]["rope_theta"] = 5.0
    (folder / "model" / OLD / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with LocalHub() as hub:
        for kind, name in (("model", "model"), ("model", "classifier"), ("dataset", "dataset")):
            commits = {commit: folder / name / commit for commit in (OLD, NEW)}
            hub.add(kind, f"owner/{name}", commits, {"main": NEW, "v1": OLD})
        hub.add("model", "owner/gated", {OLD: folder / "model" / OLD}, readers=("hf_reader",))
        yield hub


def probe(hub: LocalHub, home, *options: str, **variables: str) -> dict:
    command = [sys.executable, "-c", PROBE, OLD, NEW, ABSENT, *options]
    environ = script_environment() | hub.variables(home) | variables
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def online(hub, home) -> dict:
    """What the clients got, and what they asked for to get it."""
    asked = len(hub.requests)
    return probe(hub, home, "ask") | {"requests": hub.requests[asked:]}


@pytest.fixture(scope="module")
def offline(hub, home, online) -> dict:
    asked = len(hub.requests)
    return probe(hub, home, "read", HF_HUB_OFFLINE="1") | {"requests": hub.requests[asked:]}


@pytest.fixture(params=["online", "offline"])
def read(request) -> dict:
    """What was read, from the hub and again from the cache."""
    return request.getfixturevalue(request.param)


def test_a_repository_is_described_as_of_a_branch_a_tag_or_a_commit(online):
    assert online["infos"] == [NEW, NEW, OLD, OLD, NEW]
    assert online["dataset"] == OLD
    assert {"config.json", "model.safetensors", "tokenizer.json", "which.txt"} <= set(online["siblings"])
    assert online["history"] == [NEW, OLD]
    assert online["exists"] == [True, False]


def test_a_snapshot_holds_its_commit(read):
    for kind in ("model", "dataset"):
        for revision, commit in {OLD: OLD, "main": NEW}.items():
            files = read["files"][f"{kind} {revision}"]
            assert (files["text"], files["folder"].rpartition("/")[2]) == (commit, commit)
            assert files["rows"] == (ROWS[commit] if kind == "dataset" else None)


def test_models_come_from_their_commit_and_say_so(read):
    for revision, commit in {OLD: OLD, "main": NEW}.items():
        model = read["models"][revision]
        assert model["commits"] == [commit] * 3
        assert (model["theta"] == 5.0) == (commit == OLD)
        assert f"/snapshots/{commit}/config.json" in model["cached"]
        assert model["ids"] == read["models"][OLD]["ids"]


def test_rows_come_from_their_commit_and_their_cache_says_so(online):
    for revision, commit in {"main": NEW, "v1": OLD, OLD: OLD}.items():
        rows = online["rows"][revision]
        assert rows["rows"] == ROWS[commit]
        assert [file.split("/")[-2] for file in rows["files"]] == [commit]


def test_offline_rows_are_those_prepared_last_whatever_is_asked_for(offline):
    """load_dataset pays no heed to the revision then; it can still be read which commit the rows are from."""
    for rows in offline["rows"].values():
        assert rows["rows"] == ROWS[OLD]
        assert [file.split("/")[-2] for file in rows["files"]] == [OLD]


def test_what_is_not_there(online):
    errors = online["errors"]
    assert errors["repository"] == ["RepositoryNotFoundError"] * 3
    assert errors["revision"] == ["RevisionNotFoundError"] * 3
    assert errors["file"] == ["RemoteEntryNotFoundError"] * 2
    assert errors["data set"] == ["DatasetNotFoundError"] * 2


def test_a_gated_repository_is_for_its_readers(online):
    assert online["errors"]["gated"] == ["GatedRepoError", "GatedRepoError", "no error", "GatedRepoError"]


def test_it_keeps_what_was_asked_for(online, offline):
    assert Request("GET", f"/owner/model/resolve/{OLD}/which.txt") in online["requests"]
    fetched = {path for method, path in online["requests"] if method == "GET" and path.startswith("/datasets/")}
    assert {path for path in fetched if path.endswith(".parquet")} == {
        f"/datasets/owner/dataset/resolve/{commit}/{PARQUET}" for commit in (OLD, NEW)
    }
    assert offline["requests"] == []


@pytest.mark.parametrize(
    ("wanted", "status", "content"),
    [("bytes=2-4", 206, "111"), ("bytes=38-", 206, "11"), ("bytes=38-99", 206, "11"), ("bytes=40-", 416, "")],
)
def test_a_part_of_a_file(hub, wanted, status, content):
    url = f"{hub.url}/owner/model/resolve/v1/which.txt"
    answer = httpx.get(url, headers={"Range": wanted}, trust_env=False)
    assert (answer.status_code, answer.text) == (status, content)
    assert answer.headers["X-Repo-Commit"] == OLD
    assert answer.headers["Content-Range"].endswith("/40")
    assert answer.headers["ETag"] != httpx.head(url.replace("v1", "main"), trust_env=False).headers["ETag"]


@pytest.mark.parametrize("path", [f"..%2F{OLD}%2Fwhich.txt", "%2Fetc%2Fpasswd"])
def test_what_is_no_file_of_the_commit(hub, path):
    answer = httpx.get(f"{hub.url}/owner/model/resolve/main/{path}", trust_env=False)
    assert (answer.status_code, answer.headers["X-Error-Code"]) == (404, "EntryNotFound")


def test_a_reference_to_no_commit_is_refused(tmp_path):
    with LocalHub() as hub, pytest.raises(ValueError, match=ABSENT):
        hub.add("model", "owner/name", {OLD: tmp_path}, {"main": ABSENT})
