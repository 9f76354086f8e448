"""The peak of this process alone, whatever process has started it."""

import resource

import pytest

from response_generator.training import device_memory


def test_the_peak_is_read_from_the_process_status(tmp_path, monkeypatch):
    monkeypatch.setattr(device_memory, "PROCESS_STATUS_FILE", tmp_path / "status")
    (tmp_path / "status").write_text("Name:\tpython\nVmPeak:\t 9000 kB\nVmHWM:\t    2048 kB\n", encoding="ascii")
    assert device_memory.get_peak_bytes() == 2048 * 1024


def test_without_a_process_status_the_peak_is_that_of_getrusage(tmp_path, monkeypatch):
    monkeypatch.setattr(device_memory, "PROCESS_STATUS_FILE", tmp_path / "absent")
    assert device_memory.get_peak_bytes() == pytest.approx(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
