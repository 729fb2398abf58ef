"""What became of every tensor: of the checkpoint that was made, and of the public ones that it was made from."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Literal

from hero_rt.errors import UsageError

Origin = Literal["copied", "zero", "random"]


@dataclass
class Report:
    """made: `part/tensor` -> (origin, where from or why); unused: `source: tensor` -> why nothing reads it."""

    made: dict[str, tuple[Origin, str]] = field(default_factory=dict)
    unused: dict[str, str] = field(default_factory=dict)

    def counts(self) -> dict[str, int]:
        """Tensors by what became of them."""
        counted = Counter(origin for origin, _ in self.made.values())
        return dict(counted) | {"unused": len(self.unused)}

    def to_dict(self) -> dict[str, Any]:
        return {"made": {name: list(how) for name, how in self.made.items()}, "unused": self.unused}

    def require_explained(self, expected: set[str], left_over: dict[str, set[str]]) -> None:
        """Raise UsageError for a tensor of the checkpoint that nothing made, or a public one that nothing explains.

        expected: every `part/tensor`; left_over: by source, keys that were neither read nor explained.
        """
        if missing := sorted(expected - self.made.keys()):
            raise UsageError(
                f"{len(missing)} tensors come from nowhere, for instance {missing[0]}; the sources lack them"
            )
        for source, keys in left_over.items():
            if keys:
                raise UsageError(
                    f"{source}: {len(keys)} tensors have no place in HERO, for instance {min(keys)}; "
                    "is it a checkpoint of another model?"
                )
