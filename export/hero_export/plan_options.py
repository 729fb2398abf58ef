"""TensorRT's build options under polygraphy's and trtexec's names, and what each library cannot do of them."""

import re
import shlex
from dataclasses import asdict, dataclass, replace
from typing import Any

from hero_export.plugin import PLUGIN_CHOICES
from hero_rt.errors import UsageError

# without a device TensorRT-RTX fails at these, late and unclearly
_NEEDS_DEVICE = ("refittable", "strip_plan", "version_compatible", "hardware_compatibility_level")
_LEVELS = ("none", "ampere_plus", "same_compute_capability")


@dataclass(frozen=True)
class PlanOptions:
    """How plans are built.

    pool_limit: "workspace:SIZE" with K, M or G (powers of 1024), the tactics' scratch; a spatio-temporal UNet has asked
    for 64 GiB uncapped. compute_capability: "sm_89", ... to build for (TensorRT-RTX, with no GPU), or none for the
    present GPU. timing_cache: a file that is read where it exists and written afterwards. Raises UsageError.
    """

    pool_limit: str = "workspace:8G"
    builder_optimization_level: int | None = None
    timing_cache: str | None = None
    hardware_compatibility_level: str = "none"
    version_compatible: bool = False
    strip_plan: bool = False
    refittable: bool = False
    compute_capability: tuple[str, ...] = ()
    plugin: str = "auto"

    def __post_init__(self) -> None:
        _ = self.workspace
        level = self.builder_optimization_level
        if level is not None and not 0 <= level <= 5:
            raise UsageError(f"--builder-optimization-level {level} is not 0 to 5")
        if self.hardware_compatibility_level not in _LEVELS:
            seen = self.hardware_compatibility_level
            raise UsageError(f"--hardware-compatibility-level {seen!r} is not one of {', '.join(_LEVELS)}")
        if self.plugin not in PLUGIN_CHOICES:
            raise UsageError(f"--plugin {self.plugin!r} is not one of {', '.join(PLUGIN_CHOICES)}")
        for capability in self.compute_capability:
            if re.fullmatch(r"sm_\d+", capability) is None:
                raise UsageError(f"--compute-capability {capability!r} is not of the form sm_89,sm_120")

    @property
    def workspace(self) -> int:
        """Bytes."""
        match = re.fullmatch(r"workspace:(\d+(?:\.\d+)?)([KMG]?)", self.pool_limit)
        if match is None:
            raise UsageError(f"--pool-limit {self.pool_limit!r} is not workspace:SIZE, for instance workspace:8G")
        return int(float(match[1]) * 1024 ** " KMG".index(match[2] or " "))

    @property
    def arguments(self) -> str:
        """As the command line gives them, defaults left out; empty where all are."""
        default, parts = asdict(PlanOptions()), []
        for name, value in asdict(self).items():
            if value != default[name]:
                flag = "--" + name.replace("_", "-")
                text = ",".join(value) if isinstance(value, tuple) else str(value)
                parts += [flag] if value is True else [flag, shlex.quote(text)]
        return " ".join(parts)

    def flags(self) -> dict[str, Any]:
        """What determines a plan; a timing cache only saves measuring again."""
        return {name: value for name, value in asdict(self).items() if name not in ("timing_cache", "plugin")}


def check_options(format: str, trt: Any, options: PlanOptions, gpu: str | None) -> PlanOptions:
    """The options with their targets filled in, after refusing what this library cannot do here. Raises UsageError.

    gpu: the present GPU as "sm_89", or None.
    """
    if format == "tensorrt":
        if options.compute_capability:
            asked = ",".join(options.compute_capability)
            raise UsageError(f"--compute-capability {asked}: {format} builds for the present GPU only; leave it out")
        return options
    targets = options.compute_capability or ((gpu,) if gpu else ())
    known = {f"sm_{name[2:]}" for name in trt.ComputeCapability.__members__ if name.startswith("SM")}
    listed = ", ".join(sorted(known, key=lambda name: int(name[3:])))
    if not targets:
        raise UsageError(f"there is no GPU here to build for: name targets with --compute-capability, of {listed}")
    for capability in targets:
        if capability not in known:
            raise UsageError(
                f"--compute-capability {capability} is not a target of TensorRT-RTX {trt.__version__}, which has "
                f"{listed}; that GPU is served by --format tensorrt or aoti"
            )
    if options.timing_cache:
        raise UsageError("--timing-cache is not for tensorrt-rtx: it times nothing while building; leave it out")
    default = PlanOptions()
    for name in _NEEDS_DEVICE if gpu is None else ():
        if getattr(options, name) != getattr(default, name):
            raise UsageError(
                f"--{name.replace('_', '-')} needs the GPU itself with TensorRT-RTX, and there is none here; "
                "leave it out, or build on the GPU"
            )
    if options.plugin == "python":
        raise UsageError("--plugin python is not for tensorrt-rtx, which has no Python plugins; use library or off")
    return replace(options, compute_capability=targets)
