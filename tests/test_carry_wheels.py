"""Wheels packed, carried and installed by scripts/carry-wheels. The index is a folder: nothing is downloaded."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NAME = "carried_along-1.0-py3-none-any.whl"


def carry(*arguments: object, **variables: str) -> subprocess.CompletedProcess:
    environment = os.environ | {"PYTHON": sys.executable, "CHUNK": "1000"} | variables
    command = [str(ROOT / "scripts/carry-wheels"), *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def wheel(tmp_path) -> Path:
    """A real wheel of one module, 3 chunks of 1,000 bytes long."""
    path = tmp_path / "index" / NAME
    path.parent.mkdir()
    filler = "".join(f"# {hash((i, 'x')) % 10**18}\n" for i in range(120))
    head = "Metadata-Version: 2.1\nName: carried-along\nVersion: 1.0\n"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("carried_along.py", f"ANSWER = 42\n{filler}")
        archive.writestr("carried_along-1.0.dist-info/METADATA", head)
        archive.writestr(
            "carried_along-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("carried_along-1.0.dist-info/RECORD", "")
    return path


@pytest.fixture
def chunks(wheel, tmp_path) -> Path:
    folder = tmp_path / "chunks"
    done = carry("pack", folder, "carried-along", PIP_NO_INDEX="1", PIP_FIND_LINKS=str(wheel.parent))
    assert done.returncode == 0, done.stderr
    return folder


def test_chunks_are_small_and_hold_the_wheel(wheel, chunks):
    pieces = sorted(chunks.glob("*.whl.*"))
    assert len(pieces) == -(-wheel.stat().st_size // 1000) > 2
    assert max(piece.stat().st_size for piece in pieces) == 1000
    assert b"".join(piece.read_bytes() for piece in pieces) == wheel.read_bytes()


def test_a_chunk_that_is_missing_or_changed_is_named(chunks, tmp_path):
    second = chunks / f"{NAME}.001"
    whole = second.read_bytes()
    second.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
    for problem in ("changed", "missing"):
        if problem == "missing":
            second.unlink()
        done = carry("install", chunks, tmp_path / "site")
        assert done.returncode == 1
        assert f"{NAME}.001: FAILED" in done.stdout
        assert f"bring the files of {chunks} again" in done.stdout
    assert not (tmp_path / "site").exists()


def test_install_puts_what_is_missing_where_it_is_told(chunks, tmp_path):
    done = carry("install", chunks, tmp_path / "site")
    assert (done.returncode, done.stdout) == (0, f"{NAME}\n"), done.stderr
    answer = [sys.executable, "-c", "import carried_along; print(carried_along.ANSWER)"]
    path = {"PYTHONPATH": str(tmp_path / "site")}
    assert subprocess.run(answer, env=path, capture_output=True, text=True, check=True).stdout == "42\n"


@pytest.mark.parametrize(
    ("release", "kept"),
    [("1.0", True), ("1.0.1", True), ("2.10.0+cu130", True), ("0.10", False)],
)
def test_what_is_installed_stays_unless_it_is_older(chunks, tmp_path, release, kept):
    about = tmp_path / "here" / f"carried_along-{release}.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: carried-along\nVersion: {release}\n")
    done = carry("install", chunks, tmp_path / "site", PYTHONPATH=str(about.parent))
    assert done.returncode == 0, done.stderr
    assert done.stdout == ("nothing is missing here\n" if kept else f"{NAME}\n")
    assert (tmp_path / "site").exists() != kept


def test_every_package_has_a_version():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {line.partition("==")[0].lower().replace("_", "-") for line in lines if "==" in line}
    listed = carry("list").stdout.split()
    assert len(listed) > 40
    assert [name for name in listed if "==" not in name and name.lower().replace("_", "-") not in pinned] == []
