"""Shared by the tests that run suites."""

import pytest


@pytest.fixture
def small_ceilings(monkeypatch):
    """The ceilings' own operands take seconds; what they are is not the subject here."""
    monkeypatch.setattr("benchmarks.roofline.MATMUL_SIZE", {"cpu": 64})
    monkeypatch.setattr("benchmarks.roofline.COPY_BYTES", {"cpu": 1 << 16})
