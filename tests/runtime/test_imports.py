"""What an application with engines loads: not the PyTorch model, whose libraries take seconds to import."""

import ast
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import hero_rt

SCRIPT = """
import sys
from collections import Counter
import numpy as np
from hero_rt import Outpainter

outpainter = Outpainter.from_engines(sys.argv[1], device="cpu")
frames = outpainter(np.zeros((16, 64, 96, 3), np.uint8), pad=(0, 16, 0, 16), num_inference_steps=1).frames
assert frames.shape == (16, 64, 128, 3), frames.shape
print(*sorted(sys.modules))
"""


def test_engines_run_without_the_networks_and_their_libraries(engine_folder):
    done = subprocess.run([sys.executable, "-c", SCRIPT, engine_folder], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.split())
    assert {"torch", "onnxruntime", "diffusers.schedulers", "hero_rt.spec.boundary"} <= loaded
    assert not loaded & {"transformers", "diffusers.models", "hero_rt.models.hero", "hero_rt.models.unet", "onnx"}


def test_no_modules_of_the_runtime_import_one_another_in_a_circle():
    """By the import statements of each module, those inside functions left out."""
    root = Path(hero_rt.__file__).parent
    sources = {
        ".".join(path.relative_to(root.parent).with_suffix("").parts).removesuffix(".__init__"): path
        for path in root.rglob("*.py")
    }
    imports = {}
    for module, path in sources.items():
        named = [n for n in ast.parse(path.read_text()).body if isinstance(n, ast.ImportFrom) and n.module]
        found = {n.module for n in named} | {f"{n.module}.{alias.name}" for n in named for alias in n.names}
        imports[module] = found & sources.keys() - {module}
    while leaves := [module for module, found in imports.items() if not found & imports.keys()]:
        for module in leaves:
            del imports[module]
    assert imports == {}, "these import one another"


def test_a_session_does_not_know_the_outpainter_nor_a_canvas_the_composite():
    code = (
        "import sys, hero_rt.session; assert 'hero_rt.outpainter' not in sys.modules\n"
        "import sys; [sys.modules.pop(m) for m in list(sys.modules) if m.startswith('hero_rt')]\n"
        "import hero_rt.spec.canvas; assert not [m for m in sys.modules if m.startswith('hero_rt.stages')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


ROOT = Path(hero_rt.__file__).parents[1]
PACKAGES = {  # folder of the sources: packages of the project that its modules may import
    "kernels/hero_kernels": set(),
    "hero_rt": {"hero_kernels"},
    "export/hero_export": {"hero_kernels", "hero_rt"},
    "training/hero_train": {"hero_kernels", "hero_rt"},
    "benchmarks": {"hero_kernels", "hero_rt", "hero_export", "hero_train"},
}


def imported(path: Path) -> set[str]:
    """The packages that a module imports, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
        found |= {name.partition(".")[0] for name in names}
    return found


@pytest.mark.parametrize("folder", PACKAGES)
def test_packages_depend_one_way(folder):
    own = Path(folder).name
    others = {Path(name).name for name in PACKAGES} - PACKAGES[folder] - {own}
    sources = list((ROOT / folder).rglob("*.py"))
    assert sources
    wrong = {str(path): imported(path) & others for path in sources}
    assert {path: found for path, found in wrong.items() if found} == {}


@pytest.mark.parametrize("folder", PACKAGES)
def test_no_two_modules_of_a_package_have_one_name(folder):
    """Apart from the folders of the kernels, which are parallel, and command modules."""
    names = Counter(path.name for path in (ROOT / folder).rglob("*.py"))
    allowed = {"__init__.py", "__main__.py", "cli.py"}
    if folder == "kernels/hero_kernels":
        allowed |= {"op.py", "reference.py", "triton.py"}
    assert [name for name, count in names.items() if count > 1 and name not in allowed] == []
