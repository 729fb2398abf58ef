"""Reports the origin of every tensor of a composed checkpoint, and the use of every tensor of its sources."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Literal

from hero_rt.errors import UsageError

Origin = Literal["copied", "zero", "random"]


@dataclass
class Report:
    """Maps `part/tensor` to (origin, source or reason) in `made`, and `source: tensor` to a reason in `unused`."""

    made: dict[str, tuple[Origin, str]] = field(default_factory=dict)
    unused: dict[str, str] = field(default_factory=dict)

    def counts(self) -> dict[str, int]:
        """Count tensors by their origin, and the unused ones."""
        counted = Counter(origin for origin, _ in self.made.values())
        return dict(counted) | {"unused": len(self.unused)}

    def to_dict(self) -> dict[str, Any]:
        return {"made": {name: list(how) for name, how in self.made.items()}, "unused": self.unused}

    def require_explained(self, expected: set[str], left_over: dict[str, set[str]]) -> None:
        """Raise UsageError for a tensor of the checkpoint without an origin, or a public one without use or reason.

        expected: every `part/tensor`; left_over: by source, keys that were neither read nor explained.
        """
        if missing := sorted(expected - self.made.keys()):
            raise UsageError(
                f"{len(missing)} tensors have no source, for instance {missing[0]}; give sources that have them"
            )
        for source, keys in left_over.items():
            if keys:
                raise UsageError(
                    f"{source}: {len(keys)} tensors have no place in HERO, for instance {min(keys)}; "
                    "is it a checkpoint of another model?"
                )
