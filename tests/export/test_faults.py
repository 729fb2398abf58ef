"""What a build leaves when it is killed, when the disk is full or read-only, when a byte rots: a message, no trap."""

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

import hero_export.build
import hero_export.cli
from hero_export.build import RECORDS, build_engines
from hero_export.checkpoint import Checkpoint
from hero_export.engine_build import BuildSettings
from hero_rt.engines import open_engines, read_manifest
from hero_rt.errors import EngineError
from hero_rt.spec.profile import Profile
from tests.test_commands import run

TINY = BuildSettings.of(Checkpoint("random", "hero-tiny"))
PROFILE = Profile(64, 64, 16)
QUICK = ("vae_encoder", "vae_decoder")  # seconds each

# a build whose own steps stop where a test wants them to: "{phase}" creates the file `reached` and waits to be killed
SLOW_BUILD = """
import os, pathlib, sys, time
import hero_export.build as build, hero_export.onnx, hero_export.tensorrt_plan, hero_export.worker as worker
from hero_export.checkpoint import Checkpoint
from hero_export.engine_build import BuildSettings
from hero_rt.spec.profile import Profile

folder, reached, phase = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3]
build.SUBMODULES = ("vae_encoder", "vae_decoder")

def stop_before(module, name):
    real = getattr(module, name)
    def waiting(*args, **kwargs):
        if "vae_decoder" in repr(args) or name == "write_manifest":
            reached.touch()
            time.sleep(60)
        return real(*args, **kwargs)
    setattr(module, name, waiting)

{{"export": lambda: stop_before(hero_export.onnx, "export_onnx"),
  "compile": lambda: stop_before(hero_export.tensorrt_plan, "build_plan"),
  "record": lambda: stop_before(build, "write_atomically"), "manifest": lambda: stop_before(build, "write_manifest")}}[phase]()

if __name__ == "__main__":
    settings = BuildSettings.of(Checkpoint("random", "hero-tiny"), **{settings})
    build.build_engines(settings, folder, [Profile(64, 64, 16)])
"""
PLAN = "dict(format='tensorrt-rtx', dtype='fp16', compute_capabilities=('sm_89',), plugin='off')"


def survivors(token: str) -> list[str]:
    """Processes that still work on `token`, a path."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            environment = (entry / "environ").read_bytes().decode(errors="replace")
        except OSError:  # it ended while we looked, or is another user's
            continue
        if token in command or f"HERO_TEST={token}" in environment:
            found.append(command)
    return found


SLOW = [pytest.param(phase, marks=pytest.mark.slow) for phase in ("export", "compile", "manifest")]


@pytest.mark.parametrize("phase", ["record", *SLOW])
def test_a_build_killed_in_any_phase_does_not_open_and_the_next_one_finishes_it(tmp_path, monkeypatch, phase):
    folder, reached, main = tmp_path / "engines", tmp_path / "reached", tmp_path / "main.py"
    settings = PLAN if phase == "compile" else "dict()"
    main.write_text(SLOW_BUILD.format(settings=settings, phase=phase))
    environment = os.environ | {"HERO_TEST": str(tmp_path)}
    build = subprocess.Popen([sys.executable, main, folder, reached, phase], env=environment, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 300
    while not reached.exists() and build.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert reached.exists(), build.stderr.read().decode()
    build.kill()
    build.wait()
    while survivors(str(tmp_path)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert survivors(str(tmp_path)) == []  # the killed command's own processes end with it
    with pytest.raises(EngineError, match="its build did not finish; run it again"):
        open_engines(folder)

    monkeypatch.setattr(hero_export.build, "SUBMODULES", QUICK)
    seen = {}
    if phase == "compile":
        return  # the plan itself is what test_plans builds
    build_engines(TINY, folder, [PROFILE], lambda done, kept: seen.update({done.engine.submodule: kept}))
    assert seen == {"vae_encoder": True, "vae_decoder": phase == "manifest"}
    open_engines(folder, "cpu").close()
    left = {path.name for path in folder.iterdir()} - set(read_manifest(folder).files)
    assert left == {"manifest.json", ".lock"}


@pytest.mark.parametrize("moment", ["import", pytest.param("compile", marks=pytest.mark.slow)])
def test_an_interrupt_stops_a_plan_in_the_making_within_seconds(tmp_path, moment):
    """Ctrl-C at a terminal: the whole process group hears it; a child that imports ends, TensorRT stops at a step."""
    folder, main = tmp_path / "engines", tmp_path / "main.py"
    main.write_text(
        textwrap.dedent(
            f"""
            import sys, hero_export.build as build, hero_export.cli
            build.SUBMODULES = ("flow_encoder",)
            if __name__ == "__main__":
                sys.argv = ["hero-export", "build-engines", "random", "--preset", "hero-tiny", "--format", "tensorrt-rtx",
                            "--profile", "64x64x16", "--compute-capabilities", "sm_80", "sm_89", "sm_120", "--out", {str(folder)!r}]
                hero_export.cli.main()
            """
        )
    )
    environment = os.environ | {"HERO_TEST": str(tmp_path)}
    build = subprocess.Popen(
        [sys.executable, main], env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    deadline = time.monotonic() + 300

    def reached() -> bool:
        if moment == "import":
            return any("spawn_main" in command for command in survivors(str(tmp_path)))
        return bool(list(folder.glob(".build-*/*.onnx")))

    while not reached() and build.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(build.pid, signal.SIGINT)
    started = time.monotonic()
    _, err = build.communicate(timeout=60)
    assert build.returncode == 130, err
    assert time.monotonic() - started < 20
    assert "Traceback" not in err
    assert "flow_encoder 64x64x16: export" in err or moment == "import"
    assert err.splitlines()[-2:] == ["finished engines are kept; run the command again to go on", "interrupted"]
    assert survivors(str(tmp_path)) == []
    assert {path.name for path in folder.iterdir()} <= {".lock", RECORDS}


def test_what_killed_builds_left_half_done_is_cleared(engine_folder, tmp_path):
    folder = Path(shutil.copytree(engine_folder, tmp_path / "engines"))
    (folder / ".build-abc").mkdir()
    (folder / ".build-abc" / "unet_step.plan").write_bytes(b"half")
    (folder / ".manifest.json-0badf00d").write_text("{")
    build_engines(TINY, folder, [Profile(128, 64, 16)])
    assert {path.name for path in folder.glob(".*")} == {".lock"}
    open_engines(folder, "cpu").close()


def test_a_damaged_record_of_a_killed_build_is_built_anew(engine_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(hero_export.build, "SUBMODULES", ("vae_encoder",))
    (tmp_path / "e" / RECORDS).mkdir(parents=True)
    (tmp_path / "e" / RECORDS / "vae_encoder.64x64x16.onnx.json").write_bytes(b'{"engine": \xff')
    build_engines(TINY, tmp_path / "e", [PROFILE])
    open_engines(tmp_path / "e", "cpu").close()


def test_a_flipped_byte_anywhere_in_the_manifest_does_not_open(engine_folder, tmp_path):
    """Every byte of a short manifest would take minutes; every 97th meets all kinds of fields."""
    folder = Path(shutil.copytree(engine_folder, tmp_path / "engines"))
    path = folder / "manifest.json"
    sound = path.read_bytes()
    for position in range(0, len(sound), 97):
        for bit in (1, 0x20, 0x80):
            damaged = bytearray(sound)
            damaged[position] ^= bit
            path.write_bytes(damaged)
            with pytest.raises(EngineError) as caught:
                read_manifest(folder)
            assert str(path) in str(caught.value)
            assert "\n" not in str(caught.value)
    path.write_bytes(sound)
    read_manifest(folder)


# runs in a process of its own, with a limit or a user that pytest itself could not do with
LIMITED = """
import pathlib, resource, os, sys
import hero_export.build as build
from hero_export.engine_build import BuildSettings
from hero_export.checkpoint import Checkpoint
from hero_rt.errors import HeroError
from hero_rt.spec.profile import Profile
build.SUBMODULES = ("vae_encoder",)
if __name__ == "__main__":
    settings = BuildSettings.of(Checkpoint("random", "hero-tiny"))  # before: another user may not read the sources
    settings.target
    settings.checkpoint.load()
    {limit}
    try:
        build.build_engines(settings, pathlib.Path({folder!r}), [Profile(64, 64, 16)])
    except HeroError as error:
        print("HERO", error)
"""


def limited(tmp_path: Path, folder: Path, limit: str) -> str:
    main = tmp_path / "main.py"
    main.write_text(LIMITED.format(limit=limit, folder=str(folder)))
    tmp_path.chmod(0o755)
    done = subprocess.run([sys.executable, main], capture_output=True, text=True, check=False)
    messages = [line for line in done.stdout.splitlines() if line.startswith("HERO ")]
    assert len(messages) == 1, done.stdout + done.stderr
    return messages[0]


@pytest.fixture
def small_disk(tmp_path):
    """A tmpfs of 256 KiB: vae_encoder's weights alone are more. Without the right to mount, a limit on file sizes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", folder], capture_output=True, check=False
    )
    yield folder, mounted.returncode == 0
    if mounted.returncode == 0:
        subprocess.run(["umount", folder], check=True)


def test_a_full_disk_is_one_message_and_a_folder_that_does_not_open(tmp_path, small_disk, monkeypatch):
    disk, mounted = small_disk
    limit = "" if mounted else "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))"
    message = limited(tmp_path, disk / "engines", limit)
    reason = "No space left on device" if mounted else "File too large"
    assert f"{disk / 'engines'} cannot be written: {reason}; make room" in message
    with pytest.raises(EngineError, match="its build did not finish"):
        open_engines(disk / "engines")
    if mounted:
        subprocess.run(["mount", "-o", "remount,size=16m", disk], check=True)
    monkeypatch.setattr(hero_export.build, "SUBMODULES", ("vae_encoder",))
    build_engines(TINY, disk / "engines", [PROFILE])
    open_engines(disk / "engines", "cpu").close()


def test_a_read_only_folder_is_one_message(tmp_path):
    """As another user: root may write anywhere."""
    folder = tmp_path / "engines"
    folder.mkdir(mode=0o555)
    for parent in tmp_path.parents:
        if parent.stat().st_uid == os.getuid() and parent != Path("/") and not parent.stat().st_mode & 0o001:
            parent.chmod(parent.stat().st_mode | 0o011)
    limit = "os.setgid(65534); os.setuid(65534)" if os.getuid() == 0 else ""
    message = limited(tmp_path, folder, limit)
    assert f"{folder} cannot be written: Permission denied; make room or choose another --out" in message
    assert list(folder.iterdir()) == []


def test_two_commands_at_once_end_with_one_folder_that_opens(tmp_path):
    main = tmp_path / "main.py"
    main.write_text(LIMITED.format(limit="", folder=str(tmp_path / "engines")))
    builds = [
        subprocess.Popen([sys.executable, main], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    told = [build.communicate(timeout=120)[0] for build in builds]
    assert sum("another build is writing" in text for text in told) == 1
    open_engines(tmp_path / "engines", "cpu").close()


@pytest.mark.parametrize("command", ["verify", "inspect"])
def test_commands_on_a_rotten_folder_end_with_exit_code_4(engine_folder, tmp_path, capfd, command):
    folder = Path(shutil.copytree(engine_folder, tmp_path / "engines"))
    path = folder / "manifest.json"
    path.write_bytes(path.read_bytes().replace(b'"fp32"', b'"fp16"', 1))
    assert run(hero_export.cli.main, command, folder) == 4
    assert "is not as it was written" in capfd.readouterr().err
