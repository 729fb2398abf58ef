"""What a run says of the commit it measured, in repositories made for it."""

import subprocess
from pathlib import Path

import pytest

from benchmarks.environment import read_commit


def git(root: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.com")
    done = subprocess.run(["git", "-C", root, *identity, *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path):
    git(tmp_path, "init", "--quiet")
    (tmp_path / "benchmarks/results").mkdir(parents=True)
    for name in ("code.py", "benchmarks/results/cpu.json"):
        (tmp_path / name).write_text("1")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "-m", "first")
    return tmp_path


@pytest.mark.parametrize(
    ("changed", "dirty"),
    [
        pytest.param(None, False, id="nothing"),
        pytest.param("code.py", True, id="a tracked file"),
        pytest.param("new.py", True, id="a new module"),
        pytest.param("notes.txt", False, id="a new text"),
        pytest.param("benchmarks/results/cpu.json", False, id="a result"),
    ],
)
def test_a_checkout_is_dirty_where_its_code_differs(checkout, changed, dirty):
    if changed:
        (checkout / changed).write_text("2")
    assert read_commit(checkout) == (git(checkout, "rev-parse", "HEAD"), dirty)


@pytest.mark.parametrize(
    ("said", "found"),
    [
        pytest.param(None, ("", None), id="nothing"),
        pytest.param("c" * 40, ("c" * 40, False), id="clean"),
        pytest.param("c" * 40 + "-dirty", ("c" * 40, True), id="dirty"),
    ],
)
def test_a_copy_without_history_says_what_it_was_told(tmp_path, monkeypatch, said, found):
    monkeypatch.delenv("HERO_COMMIT", raising=False)
    if said:
        monkeypatch.setenv("HERO_COMMIT", said)
    assert read_commit(tmp_path) == found
