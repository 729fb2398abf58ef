"""What building engines took: the reports that `hero-export` writes with --json."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MIB, GIB = 2**20, 2**30


def read_builds(results: Path) -> dict[str, dict[str, Any]]:
    """By file name: every JSON file that lists engines."""
    found = {}
    for path in sorted(results.glob("*.json")):
        content = json.loads(path.read_text())
        if "engines" in content:
            found[path.name] = content
    return found


def build_section(name: str, report: dict[str, Any]) -> Iterator[str]:
    """A heading, where it was built, and a row an engine."""
    machine = report["machine"]
    versions = ", ".join(f"{package} {version}" for package, version in report["versions"].items())
    yield f"### {report['model']}: {report['format']}, {report['dtype']}"
    yield ""
    yield (
        f"`{name}`: {machine['cores']} {machine['processor']} cores; {versions}. Each submodule is built in a process "
        "of its own. Random weights."
    )
    yield ""
    counts = [key for key in ("nodes", "hero_nodes") if any(key in engine for engine in report["engines"])]
    header = ["engine", *(key.replace("_", " ") for key in counts), "engine MiB", "weights MiB", "seconds", "peak GiB"]
    yield f"| {' | '.join(header)} |"
    yield f"|{'---|' * len(header)}"
    for engine in report["engines"]:
        cells = [
            f"`{engine['engine']}`",
            *(f"{engine[key]:,}" if key in engine else "" for key in counts),
            f"{engine['engine_bytes'] / MIB:,.1f}",
            f"{engine['weights_bytes'] / MIB:,.0f}",
            f"{engine['seconds']:,.0f}",
            f"{engine['peak_memory_bytes'] / GIB:.1f}",
        ]
        yield f"| {' | '.join(cells)} |"
    yield ""
