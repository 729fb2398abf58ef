"""Taking the project's needs to a GPU machine that cannot reach a package index: wheels in chunks that travel.

    python -m benchmarks.wheels download build/wheels            # where there is a network
    python -m benchmarks.wheels install build/wheels --target /tmp/site && export PYTHONPATH=/tmp/site

Nothing but the standard library: this runs before anything is installed. The versions are those of constraints.txt.
"""

import argparse
import hashlib
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

CHUNK_BYTES = 30 << 20
INDEX = "index.json"
PYTHON_VERSION = "3.12"
PLATFORMS = (*(f"manylinux_2_{minor}_x86_64" for minor in (28, 27, 26, 24, 17)), "manylinux2014_x86_64")
# torch and triton are of the machine; these are the runtime's needs and theirs
PACKAGES = (
    *("diffusers", "transformers", "tokenizers", "safetensors", "huggingface_hub", "hf-xet", "regex", "PyYAML"),
    *("pydantic", "pydantic_core", "annotated-types", "typing-inspection", "typing_extensions"),
    *("onnx", "onnxscript", "onnx-ir", "ml_dtypes", "protobuf", "av", "opencv-python-headless", "pillow"),
    *("typer", "click", "rich", "markdown-it-py", "mdurl", "Pygments", "shellingham", "annotated-doc"),
    *("filelock", "fsspec", "packaging", "tqdm", "requests", "certifi", "idna", "urllib3", "charset-normalizer"),
    *("httpx2", "httpcore2", "h11", "anyio", "truststore", "importlib_metadata", "zipp", "matplotlib", "numpy"),
    *("hypothesis", "sortedcontainers"),  # the kernels' tests
    "onnxruntime-gpu==1.31.1",  # trails the CPU package that constraints.txt pins
)


class WheelError(Exception):
    """One line: what is wrong with which file, and the way out."""


def pinned(packages: Sequence[str], constraints: Path) -> list[str]:
    """NAME==VERSION for what constraints.txt pins; what names its version, or is not pinned, stays as it is."""
    lines = constraints.read_text().splitlines()
    versions = {_normal(name): value for name, _, value in (line.partition("==") for line in lines) if value}
    found = []
    for package in packages:
        pin = versions.get(_normal(package))
        found.append(f"{package}=={pin}" if pin else package)
    return found


def download_command(packages: Sequence[str], folder: Path) -> list[str]:
    """pip's, for a machine other than this one; --no-deps, since what the list leaves out is there already."""
    platforms = [argument for platform in PLATFORMS for argument in ("--platform", platform)]
    head = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    return [
        *head,
        "--python-version",
        PYTHON_VERSION,
        "--implementation",
        "cp",
        *platforms,
        "-d",
        str(folder),
        *packages,
    ]


def download(packages: Sequence[str], out: Path, chunk_bytes: int = CHUNK_BYTES) -> dict:
    """Fetch wheels and leave their chunks and the index in `out`."""
    with tempfile.TemporaryDirectory() as scratch:
        done = subprocess.run(download_command(packages, Path(scratch)), check=False)
        if done.returncode:
            raise WheelError(f"pip download ended with {done.returncode}; its message is above")
        return split(sorted(Path(scratch).glob("*.whl")), out, chunk_bytes)


def split(wheels: Sequence[Path], out: Path, chunk_bytes: int = CHUNK_BYTES) -> dict:
    """Cut each wheel into files of at most `chunk_bytes`; the index, written last, has the SHA-256 of all of them."""
    out.mkdir(parents=True, exist_ok=True)
    index = {}
    for wheel in wheels:
        chunks = []
        for number, piece in enumerate(_pieces(wheel, chunk_bytes)):
            path = out / f"{wheel.name}.{number:03}"
            path.write_bytes(piece)
            chunks.append({"file": path.name, "sha256": hashlib.sha256(piece).hexdigest()})
        index[wheel.name] = {"sha256": _sha256(wheel), "chunks": chunks}
    (out / INDEX).write_text(json.dumps(index, indent=1) + "\n")
    return index


def join(chunks: Path, out: Path) -> list[Path]:
    """The wheels of an index, whole again. Raises WheelError naming the first chunk that is missing or changed."""
    if not (chunks / INDEX).is_file():
        raise WheelError(f"{chunks} has no {INDEX}; make it: python -m benchmarks.wheels download {chunks}")
    index = json.loads((chunks / INDEX).read_text())
    for wheel in index.values():
        for chunk in wheel["chunks"]:
            path = chunks / chunk["file"]
            if not path.is_file():
                raise WheelError(f"{path} is missing; bring every file that {chunks / INDEX} lists")
            if (seen := _sha256(path)) != chunk["sha256"]:
                raise WheelError(f"{path} has SHA-256 {seen[:12]}…, {chunk['sha256'][:12]}… was made; bring it again")
    out.mkdir(parents=True, exist_ok=True)
    wheels = []
    for name, wheel in index.items():
        with (out / name).open("wb") as file:
            for chunk in wheel["chunks"]:
                file.write((chunks / chunk["file"]).read_bytes())
        if (seen := _sha256(out / name)) != wheel["sha256"]:
            raise WheelError(f"{name} has SHA-256 {seen[:12]}… when joined, {wheel['sha256'][:12]}… was downloaded")
        wheels.append(out / name)
    return wheels


def install(chunks: Path, target: Path) -> list[str]:
    """Install into `target` what this machine lacks or has older; returns the wheels' names. What is newer is kept."""
    with tempfile.TemporaryDirectory() as scratch:
        wanted = [wheel for wheel in join(chunks, Path(scratch)) if not _installed(wheel)]
        if wanted:
            head = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-compile"]
            done = subprocess.run([*head, "--upgrade", "--target", str(target), *map(str, wanted)], check=False)
            if done.returncode:
                raise WheelError(f"pip install ended with {done.returncode}; its message is above")
        return [wheel.name for wheel in wanted]


def _pieces(path: Path, size: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(size):
            yield piece


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _installed(wheel: Path) -> bool:
    """Whether this machine has the wheel's release or a later one."""
    name, release = wheel.name.split("-")[:2]
    try:
        return _numbers(version(name)) >= _numbers(release)
    except PackageNotFoundError:
        return False


def _numbers(release: str) -> list[int]:
    """1.31.1+cu130 as [1, 31, 1]."""
    return [int(number) for number in re.findall(r"\d+", release.partition("+")[0])]


def _normal(name: str) -> str:
    return name.lower().replace("_", "-")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.wheels", description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    get = commands.add_parser("download", help="fetch wheels for the GPU machine and cut them into chunks")
    get.add_argument("out", type=Path, help="folder of the chunks and their index")
    get.add_argument("--package", action="append", help="only this one, NAME or NAME==VERSION; repeatable")
    get.add_argument("--constraints", type=Path, default=Path("constraints.txt"), help="versions")
    put = commands.add_parser("install", help="check and join the chunks, install what is missing")
    put.add_argument("chunks", type=Path, help="folder written by download")
    put.add_argument("--target", type=Path, required=True, help="folder to install into; put it on PYTHONPATH")
    options = parser.parse_args(arguments)
    try:
        if options.command == "download":
            index = download(pinned(options.package or PACKAGES, options.constraints), options.out)
            lines = [f"{name}: {len(wheel['chunks'])} chunk(s)" for name, wheel in index.items()]
        else:
            lines = install(options.chunks, options.target) or ["nothing is missing here"]
    except WheelError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
