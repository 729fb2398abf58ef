"""Wheels cut, carried and joined. Nothing is downloaded here."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from benchmarks import wheels


@pytest.fixture
def wheel(tmp_path) -> Path:
    """A real wheel of one module, 3 chunks of 1,000 bytes long."""
    path = tmp_path / "made" / "carried_along-1.0-py3-none-any.whl"
    path.parent.mkdir()
    filler = "".join(f"# {hash((i, 'x')) % 10**18}\n" for i in range(120))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("carried_along.py", f"ANSWER = 42\n{filler}")
        archive.writestr(
            "carried_along-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: carried-along\nVersion: 1.0\n"
        )
        archive.writestr(
            "carried_along-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("carried_along-1.0.dist-info/RECORD", "")
    return path


def test_chunks_are_small_and_join_to_the_wheel(wheel, tmp_path):
    index = wheels.split([wheel], tmp_path / "chunks", chunk_bytes=1000)
    pieces = sorted(tmp_path.glob("chunks/*.whl.*"))
    assert len(pieces) == len(index[wheel.name]["chunks"]) == -(-wheel.stat().st_size // 1000)
    assert max(piece.stat().st_size for piece in pieces) == 1000
    (joined,) = wheels.join(tmp_path / "chunks", tmp_path / "joined")
    assert joined.read_bytes() == wheel.read_bytes()


def test_a_chunk_that_is_missing_or_changed_is_named(wheel, tmp_path):
    chunks = tmp_path / "chunks"
    wheels.split([wheel], chunks, chunk_bytes=1000)
    second = chunks / f"{wheel.name}.001"
    whole = second.read_bytes()
    second.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
    with pytest.raises(wheels.WheelError, match=r"\.whl\.001 has SHA-256 .* was made; bring it again"):
        wheels.join(chunks, tmp_path / "joined")
    second.unlink()
    with pytest.raises(wheels.WheelError, match=r"\.whl\.001 is missing"):
        wheels.join(chunks, tmp_path / "joined")
    with pytest.raises(wheels.WheelError, match=r"has no index\.json"):
        wheels.join(tmp_path / "nothing", tmp_path / "joined")
    assert not (tmp_path / "joined").exists()


def test_install_puts_what_is_missing_where_it_is_told(wheel, tmp_path, capsys):
    wheels.split([wheel], tmp_path / "chunks", chunk_bytes=1000)
    assert wheels.main(["install", str(tmp_path / "chunks"), "--target", str(tmp_path / "site")]) == 0
    assert wheel.name in capsys.readouterr().out
    answer = [sys.executable, "-c", "import carried_along; print(carried_along.ANSWER)"]
    seen = subprocess.run(
        answer, env={"PYTHONPATH": str(tmp_path / "site")}, capture_output=True, text=True, check=True
    )
    assert seen.stdout == "42\n"


@pytest.mark.parametrize("release", ["1.0", "1.0.1", "2.10.0+cu130"])
def test_what_is_installed_already_stays(wheel, tmp_path, monkeypatch, capsys, release):
    wheels.split([wheel], tmp_path / "chunks")
    monkeypatch.setattr(wheels, "version", lambda name: release)
    assert wheels.main(["install", str(tmp_path / "chunks"), "--target", str(tmp_path / "site")]) == 0
    assert capsys.readouterr().out == "nothing is missing here\n"
    assert not (tmp_path / "site").exists()


def test_what_is_older_than_its_wheel_is_installed_anew(wheel, tmp_path, monkeypatch, capsys):
    wheels.split([wheel], tmp_path / "chunks")
    monkeypatch.setattr(wheels, "version", lambda name: "0.10")
    assert wheels.main(["install", str(tmp_path / "chunks"), "--target", str(tmp_path / "site")]) == 0
    assert (tmp_path / "site" / "carried_along.py").is_file()


def test_versions_are_those_of_the_constraints_and_platforms_those_of_the_other_machine(tmp_path):
    (tmp_path / "constraints.txt").write_text("pydantic_core==2.50.4\nonnxruntime==1.32.0\n")
    asked = wheels.pinned(["pydantic-core", "onnxruntime-gpu==1.31.1", "unheard-of"], tmp_path / "constraints.txt")
    assert asked == ["pydantic-core==2.50.4", "onnxruntime-gpu==1.31.1", "unheard-of"]
    command = wheels.download_command(asked, tmp_path)
    assert command[command.index("--python-version") + 1] == "3.12"
    assert "manylinux_2_28_x86_64" in command
    assert {"--no-deps", "--only-binary=:all:"} <= set(command)
    assert command[-3:] == asked


def test_every_pinned_package_of_the_list_is_in_the_constraints():
    root = Path(__file__).parents[2]
    loose = [asked for asked in wheels.pinned(wheels.PACKAGES, root / "constraints.txt") if "==" not in asked]
    assert loose == []
