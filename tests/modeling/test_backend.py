"""What is set before torch is imported."""

import os

import psutil
import pytest

from response_generator.modeling.backend import import_backend


@pytest.mark.parametrize(
    ("percent", "named", "policy"), [(25, None, None), (26, None, "passive"), (26, "active", "active")]
)
def test_threads_wait_without_computing_where_others_compute(percent, named, policy, monkeypatch):
    monkeypatch.setattr(psutil, "cpu_percent", lambda interval: percent)
    monkeypatch.setenv("OMP_WAIT_POLICY", named or "")
    if named is None:
        monkeypatch.delenv("OMP_WAIT_POLICY")
    import_backend("transformers")
    assert os.environ.get("OMP_WAIT_POLICY") == policy
