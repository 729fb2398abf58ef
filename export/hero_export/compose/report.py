"""Reports the origin of every tensor of a composed checkpoint, and the use of every tensor of its sources."""

from typing import Literal

from pydantic import BaseModel

from hero_rt.errors import UsageError

Origin = Literal["copied", "zero", "random"]


class Report(BaseModel):
    """Maps `part/tensor` to (origin, source or reason) in `made`, and `source: tensor` to a reason in `unused`."""

    made: dict[str, tuple[Origin, str]] = {}
    unused: dict[str, str] = {}

    def require_explained(self, expected: set[str], left_over: dict[str, set[str]]) -> None:
        """Raise UsageError for a tensor of the checkpoint without an origin, or a public one without use or reason.

        expected: every `part/tensor`; left_over: by source, keys that were neither read nor explained.
        """
        if lost := expected - self.made.keys():
            raise UsageError(
                f"{len(lost)} tensors have no source, for instance {min(lost)}; give sources that have them"
            )
        for source, keys in left_over.items():
            if keys:
                raise UsageError(
                    f"{source}: {len(keys)} tensors have no place in HERO, for instance {min(keys)}; "
                    "is it a checkpoint of another model?"
                )
