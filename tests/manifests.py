"""Engine folders whose manifest says something else, and says it with a valid seal."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hero_rt.engines.manifest import Manifest, write_manifest


def edit_manifest(folder: Path, change: Mapping[str, Any]) -> None:
    """Update top-level fields; a mapping for a field that holds one is merged into it."""
    path = folder / "manifest.json"
    fields = json.loads(path.read_text())
    for name, value in change.items():
        fields[name] = fields[name] | value if isinstance(value, dict) else value
    write_manifest(folder, Manifest.model_validate(fields))
