"""Memory of the machine, the container and this process."""

import math
import resource

import pytest

from response_generator.training.cost import device_memory


def test_the_peak_is_read_from_the_process_status(tmp_path, monkeypatch):
    monkeypatch.setattr(device_memory, "PROCESS_STATUS_FILE", tmp_path / "status")
    (tmp_path / "status").write_text("Name:\tpython\nVmPeak:\t 9000 kB\nVmHWM:\t    2048 kB\n", encoding="ascii")
    assert device_memory.get_peak_bytes() == 2048 * 1024


def test_without_a_process_status_the_peak_is_that_of_getrusage(tmp_path, monkeypatch):
    monkeypatch.setattr(device_memory, "PROCESS_STATUS_FILE", tmp_path / "absent")
    assert device_memory.get_peak_bytes() == pytest.approx(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


def test_the_machine_is_named_with_its_memory():
    name, total = device_memory.describe_memory()
    with open("/proc/meminfo", encoding="ascii") as file:
        kilobytes = int(file.readline().split()[1])
    assert "available" in name
    assert total == kilobytes * 1024
    with open("/proc/self/statm", encoding="ascii") as file:
        pages = int(file.read().split()[1])
    assert math.isclose(device_memory.get_process_rss_bytes(), pages * 4096, rel_tol=0.02)


def test_a_containers_limit_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(device_memory, "CGROUP_LIMIT_FILE", tmp_path / "memory.max")
    whole = device_memory.describe_memory()[1]
    (tmp_path / "memory.max").write_text("max\n", encoding="ascii")
    assert device_memory.describe_memory()[1] == whole
    (tmp_path / "memory.max").write_text("2000000000\n", encoding="ascii")
    assert device_memory.describe_memory()[1] == 2_000_000_000
    assert device_memory.get_free_bytes() == pytest.approx(
        2_000_000_000 - device_memory.get_process_rss_bytes(), abs=1e8
    )
