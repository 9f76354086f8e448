"""An unusable GPU is reported before anything is loaded. In these tests a file or folder stands for the driver."""

import torch
from script_runs import run_here

import fine_tune_dpo
from response_generator.cli import gpu_requirements


def fake_gpu(monkeypatch, tmp_path, driver: int | None = 13000) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(gpu_requirements, "DRIVER_FILE", tmp_path)
    monkeypatch.setattr(gpu_requirements, "query_driver_cuda_version", lambda: driver)


def test_a_usable_missing_or_hidden_gpu_gives_no_error(monkeypatch, tmp_path):
    fake_gpu(monkeypatch, tmp_path)
    assert gpu_requirements.find_gpu_errors() == []
    fake_gpu(monkeypatch, tmp_path, driver=12080)
    assert gpu_requirements.find_gpu_errors() != []
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert gpu_requirements.find_gpu_errors() == []
    fake_gpu(monkeypatch, tmp_path / "no such file", driver=12080)
    assert gpu_requirements.find_gpu_errors() == []


def test_the_cuda_version_of_torch_is_read_from_its_files():
    assert gpu_requirements.read_torch_cuda_version() == torch.version.cuda


def test_a_driver_of_an_earlier_major_version_is_too_old(monkeypatch, tmp_path):
    monkeypatch.setattr(gpu_requirements, "read_torch_cuda_version", lambda: "13.2")
    fake_gpu(monkeypatch, tmp_path, driver=13000)
    assert gpu_requirements.find_gpu_errors() == []
    fake_gpu(monkeypatch, tmp_path, driver=12080)
    (message,) = gpu_requirements.find_gpu_errors()
    assert "it supports CUDA 12.8, the installed torch needs CUDA 13.2; update the NVIDIA driver" in message
    fake_gpu(monkeypatch, tmp_path, driver=None)
    (message,) = gpu_requirements.find_gpu_errors()
    assert "libcuda.so.1 cannot be used" in message
    monkeypatch.setattr(gpu_requirements, "read_torch_cuda_version", lambda: None)
    (message,) = gpu_requirements.find_gpu_errors()
    assert "built without CUDA" in message


def test_a_missing_compiler_and_missing_headers_are_reported(monkeypatch, tmp_path, tiny, capsys):
    fake_gpu(monkeypatch, tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(gpu_requirements.sysconfig, "get_paths", lambda scheme: {"include": str(tmp_path)})
    assert run_here(fine_tune_dpo.main, tiny.dpo(tmp_path / "run"), tmp_path) == 2
    compiler, headers = capsys.readouterr().err.splitlines()
    assert "no gcc and no clang" in compiler and "apt-get install gcc" in compiler and "conda install" in compiler
    assert f"{tmp_path} holds no Python.h" in headers and "-dev; conda:" in headers
    assert not (tmp_path / "run").exists()
    monkeypatch.setenv("CC", "no-such-compiler")
    assert "there is no no-such-compiler" in gpu_requirements.find_compiler_errors()[0]
