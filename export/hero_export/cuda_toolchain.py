"""Puts what compiling and linking against CUDA needs where AOTInductor looks for it.

PyTorch takes the folder above `nvcc` as the toolkit, but `nvcc` may be a link from elsewhere. PyTorch links with
`-lcuda`. The stubs folder of a toolkit has this name; the installation of a driver often does not.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from hero_export.library_name import library_as
from hero_rt.errors import HeroError

DEFAULT_HOME = Path("/usr/local/cuda")
DRIVER = "libcuda.so"


@contextmanager
def cuda_toolchain() -> Iterator[None]:
    """Let this process compile and link for CUDA while open. Raises HeroError if there is no toolkit.

    A process that has not used the GPU links with what the system has.
    """
    from torch.utils import cpp_extension

    os.environ["CUDA_HOME"] = cpp_extension.CUDA_HOME = str(find_toolkit())
    driver = loaded_library(DRIVER)
    with library_as(DRIVER, driver, "LIBRARY_PATH") if driver else nullcontext():
        yield


def find_toolkit() -> Path:
    """Return the first of CUDA_HOME, CUDA_PATH, PyTorch's choice and /usr/local/cuda that has the driver's header."""
    from torch.utils import cpp_extension  # here, because importing it warns if there is no GPU

    named = (os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH"), cpp_extension.CUDA_HOME, DEFAULT_HOME)
    for home in (Path(name) for name in named if name):
        if (home / "include" / "cuda.h").is_file():
            return home
    raise HeroError(
        "no CUDA toolkit here: format aoti compiles C++ that includes cuda.h; install one (12 or newer, as PyTorch's), "
        "or name its folder in CUDA_HOME"
    )


def loaded_library(name: str) -> Path | None:
    """Return the file from which this process has loaded `name`, of any version."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    paths = (Path(line[line.find("/") :]) for line in lines if "/" in line)
    return next((path for path in paths if path.name.startswith(name)), None)
