"""The physical limit: operations and bytes that must be, over what the machine was seen to reach."""

from benchmarks.roofline.ceilings import measure_ceilings
from benchmarks.roofline.work import boundary_bytes, bytes_of, clip_work, submodule_work, work_of

__all__ = ["boundary_bytes", "bytes_of", "clip_work", "measure_ceilings", "submodule_work", "work_of"]
