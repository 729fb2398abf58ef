"""A file appears whole or not at all, whoever writes it."""

import pytest

from hero_rt.atomic import atomic_path, publish, write_atomically


def test_a_library_that_fails_leaves_the_file_as_it_was(tmp_path):
    path = tmp_path / "plan.bin"
    write_atomically(path, b"old")

    def fail() -> None:
        with atomic_path(path) as part:
            part.write_bytes(b"half")
            raise RuntimeError("half")

    with pytest.raises(RuntimeError, match="half"):
        fail()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_library_that_ends_replaces_the_file_and_its_side_files_go(tmp_path):
    path = tmp_path / "new" / "plan.bin"
    with atomic_path(path) as part:
        assert part.name == path.name
        part.write_bytes(b"whole")
        part.with_suffix(".log").touch()
        assert not path.exists()
    assert path.read_bytes() == b"whole"
    assert list(path.parent.iterdir()) == [path]


def test_a_library_that_writes_nothing_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "plan.bin"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_folder_takes_the_place_of_an_empty_one(tmp_path):
    (tmp_path / "part").mkdir()
    (tmp_path / "part" / "000000.png").touch()
    (tmp_path / "clip").mkdir()
    publish(tmp_path / "part", tmp_path / "clip")
    assert [path.name for path in tmp_path.rglob("*")] == ["clip", "000000.png"]
