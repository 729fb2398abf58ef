"""Builds a TensorRT plan from ONNX, with `tensorrt` or `tensorrt_rtx`. The two differ in the name of their module.

Networks are strongly typed: the graph states the precision. Both libraries run the same lines of this file. So building
with TensorRT-RTX on a machine without a GPU tests the lines that TensorRT runs.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hero_export.builders.builder import Progress
from hero_export.builders.tensorrt import TensorRTOptions
from hero_export.plugin import register
from hero_export.tensorrt_log import make_logger, make_monitor
from hero_rt.atomic import write_atomically
from hero_rt.errors import HeroError

ShapeRanges = Mapping[str, Sequence[tuple[int, ...]]]  # smallest, typical, largest shape of each dynamic input


@dataclass(frozen=True)
class Plan:
    """A built plan and the figures of its builder."""

    path: Path
    network: dict[str, int]  # layers handed to the builder, by type
    layers: list[str]  # of the engine, "kind: name": those of the network, fused
    memory: dict[str, int]  # activation_bytes and device_weights_bytes, where the library tells
    warnings: list[str]


def build_plan(
    trt: Any,
    onnx_path: Path,
    path: Path,
    options: TensorRTOptions,
    plugin: str = "off",
    progress: Progress | None = None,
    ranges: ShapeRanges | None = None,
) -> Plan:
    """Build `onnx_path` into the plan `path`, atomically.

    plugin: "python", "library" or "off". Raises HeroError with the message of the parser or builder, and
    KeyboardInterrupt if `progress` stopped the build.
    """
    logger = make_logger(trt, options.verbose)
    builder = trt.Builder(logger)
    register(plugin, trt)
    creation = trt.NetworkDefinitionCreationFlag
    flags = 1 << int(creation.STRONGLY_TYPED)
    if plugin == "python":
        flags |= 1 << int(creation.PREFER_AOT_PYTHON_PLUGINS)
    network = builder.create_network(flags)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(onnx_path)):  # by path: weights are external
        reasons = "; ".join(str(parser.get_error(i)).strip().splitlines()[0] for i in range(parser.num_errors))
        raise HeroError(f"{onnx_path.name}: TensorRT's parser refuses it: {reasons}")
    types = Counter(str(network.get_layer(i).type).removeprefix("LayerType.") for i in range(network.num_layers))
    config = _configure(trt, builder, options)
    if ranges:
        shapes = builder.create_optimization_profile()
        for name, (smallest, typical, largest) in ranges.items():
            shapes.set_shape(name, smallest, typical, largest)
        config.add_optimization_profile(shapes)
    monitor = make_monitor(trt, progress or (lambda phase, done, total: True))
    config.progress_monitor = monitor
    plan = builder.build_serialized_network(network, config)
    if monitor.stopped:
        raise KeyboardInterrupt
    if plan is None:
        reason = logger.errors[-1] if logger.errors else "it gives no reason"
        reason += f"; raise --pool-limit {options.pool_limit}" if "workspace limit" in reason else ""
        raise HeroError(f"{onnx_path.name}: TensorRT builds no plan: {reason}")
    write_atomically(path, plan)
    if options.save_timing_cache:
        write_atomically(options.save_timing_cache, config.get_timing_cache().serialize())
    return Plan(path, dict(types), logger.layers, logger.memory, logger.warnings)


def _configure(trt: Any, builder: Any, options: TensorRTOptions) -> Any:
    config = builder.create_builder_config()
    config.clear_flag(trt.BuilderFlag.TF32)  # on by default; its rounding costs 3e-4 to 5e-4, FP32's limit is 1e-4
    if not options.compute_capabilities:
        # an inspector on this GPU then tells kernels; where there is none the log's list is all there is, and this
        # would silence it
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace)
    if options.builder_optimization_level is not None:
        config.builder_optimization_level = options.builder_optimization_level
    if options.hardware_compatibility_level != "none":
        level = options.hardware_compatibility_level.upper()
        config.hardware_compatibility_level = getattr(trt.HardwareCompatibilityLevel, level)
    if options.compute_capabilities:
        config.num_compute_capabilities = len(options.compute_capabilities)
        for index, capability in enumerate(options.compute_capabilities):
            config.set_compute_capability(getattr(trt.ComputeCapability, capability.replace("sm_", "SM")), index)
    wanted = {
        trt.BuilderFlag.REFIT: options.refittable,
        trt.BuilderFlag.STRIP_PLAN: options.strip_plan,
        trt.BuilderFlag.VERSION_COMPATIBLE: options.version_compatible,
    }
    for flag in (flag for flag, on in wanted.items() if on):
        config.set_flag(flag)
    if options.load_timing_cache or options.save_timing_cache:
        files = [file for file in (options.load_timing_cache, options.save_timing_cache) if file and file.is_file()]
        cache = config.create_timing_cache(files[0].read_bytes() if files else b"")
        for file in files[1:]:
            cache.combine(config.create_timing_cache(file.read_bytes()), ignore_mismatch=False)
        config.set_timing_cache(cache, ignore_mismatch=False)
    return config
