"""What a build against CUDA finds, on a machine that need not have any."""

import ctypes
import os
import subprocess
from pathlib import Path

import pytest
from torch.utils import cpp_extension

import hero_export.cuda_toolchain
from hero_export.cuda_toolchain import cuda_toolchain, find_toolkit, loaded_library
from hero_rt.errors import HeroError


@pytest.fixture
def environment(monkeypatch, tmp_path):
    """No variable and no folder of this machine's own names a toolkit."""
    for name in ("CUDA_HOME", "CUDA_PATH", "LIBRARY_PATH"):
        monkeypatch.setenv(name, "")
    monkeypatch.setattr(cpp_extension, "CUDA_HOME", str(tmp_path / "bin-only"))
    monkeypatch.setattr(hero_export.cuda_toolchain, "DEFAULT_HOME", tmp_path / "default")
    return monkeypatch


def toolkit(folder: Path) -> Path:
    (folder / "include").mkdir(parents=True)
    (folder / "include" / "cuda.h").touch()
    return folder


def test_the_folder_above_a_link_to_nvcc_is_passed_over_for_one_with_headers(environment, tmp_path):
    with pytest.raises(HeroError, match=r"no CUDA toolkit here.*CUDA_HOME"):
        find_toolkit()
    default = toolkit(tmp_path / "default")
    assert find_toolkit() == default
    environment.setenv("CUDA_HOME", str(toolkit(tmp_path / "named")))
    assert find_toolkit() == tmp_path / "named"


def test_a_loaded_library_is_found_by_the_start_of_its_name():
    ctypes.CDLL("libm.so.6")
    found = loaded_library("libm.so")
    assert found is not None
    assert found.name.startswith("libm.so")
    assert ctypes.CDLL(str(found)).abs(-3) == 3  # a library, by its whole path
    assert loaded_library("libnothing.so") is None


def test_a_program_links_with_the_driver_that_is_loaded_though_no_folder_has_its_unversioned_name(
    environment, tmp_path
):
    """`-lcuda` must find what the driver's own folder has only as libcuda.so.1. A C library stands in for the driver."""
    toolkit(tmp_path / "default")
    versioned = tmp_path / "driver" / "libcuda.so.1"
    versioned.parent.mkdir()
    source = "int cuInit(unsigned flags) { return (int) flags; }"
    stand_in = "libcuda-stand-in.so"  # by the driver's own name other tests would find it loaded
    compile_c(source, "-shared", "-fPIC", f"-Wl,-soname,{stand_in}", "-o", str(versioned))
    (versioned.parent / stand_in).symlink_to(versioned)
    ctypes.CDLL(str(versioned))
    program = tmp_path / "program"
    with cuda_toolchain():
        assert os.environ["CUDA_HOME"] == cpp_extension.CUDA_HOME == str(tmp_path / "default")
        compile_c("int cuInit(unsigned); int main(void) { return cuInit(7); }", "-o", str(program), "-lcuda")
    assert os.environ["LIBRARY_PATH"] == ""
    environment = {"LD_LIBRARY_PATH": str(versioned.parent)}
    assert subprocess.run([program], env=environment, check=False).returncode == 7


def compile_c(source: str, *arguments: str) -> None:
    subprocess.run(["gcc", "-x", "c", "-", *arguments], input=source.encode(), check=True)
