"""The part of tensorrt.plugin (TensorRT 10.13 to 11) that the plugin uses, with every dimension known.

TensorRT's own bindings load only beside its libraries, which PyPI does not carry; the rules checked here are those of
its documentation: names and order of an aot_impl's parameters, its return type, 32-bit integers as scalars.
"""

import inspect
import sys
import types
from dataclasses import dataclass, field


@dataclass
class SymInt32:
    value: "int | SymInt32"
    is_constant: bool = True

    def constant_value(self) -> int:
        assert self.is_constant
        return int(self)

    def __int__(self) -> int:
        return int(self.value)

    def __mul__(self, other: "int | SymInt32") -> "SymInt32":
        return SymInt32(int(self) * int(other), self.is_constant and getattr(other, "is_constant", True))


class SymIntExprs(list):
    def __init__(self, length: int):
        super().__init__([None] * length)


@dataclass
class TensorDesc:
    shape_expr: tuple[SymInt32, ...]
    dtype: str

    def like(self) -> "TensorDesc":
        return TensorDesc(self.shape_expr, self.dtype)


@dataclass
class KernelLaunchParams:
    grid_x: int | SymInt32 = 1
    grid_y: int | SymInt32 = 1
    grid_z: int | SymInt32 = 1
    block_x: int | SymInt32 = 1
    shared_mem: int | SymInt32 = 0


@dataclass
class Registered:
    describe: dict = field(default_factory=dict)
    compiled: dict = field(default_factory=dict)


def install(monkeypatch) -> Registered:
    """Put the stand-in in place of tensorrt and tensorrt.plugin; what is registered appears in the result."""
    seen = Registered()

    def register(plugin_id):
        def decorate(function):
            annotations = {n: p.annotation for n, p in inspect.signature(function).parameters.items()}
            assert set(annotations.values()) <= {TensorDesc, int, float, str, bool, bytes}
            assert inspect.signature(function).return_annotation is TensorDesc
            seen.describe[plugin_id] = function
            return function

        return decorate

    def aot_impl(plugin_id):
        def decorate(function):
            described = list(inspect.signature(seen.describe[plugin_id]).parameters)
            assert list(inspect.signature(function).parameters) == [*described, "outputs", "tactic"]
            returned = inspect.signature(function).return_annotation
            assert returned.__args__ == (str | bytes, str | bytes, KernelLaunchParams, SymIntExprs)
            seen.compiled[plugin_id] = function
            return function

        return decorate

    trt, plugin = types.ModuleType("tensorrt"), types.ModuleType("tensorrt.plugin")
    trt.float16, trt.bfloat16, trt.float32 = "float16", "bfloat16", "float32"
    plugin.register, plugin.aot_impl = register, aot_impl
    plugin.cdiv = lambda a, b: SymInt32(-(-int(a) // int(b)))
    for member in (SymInt32, SymIntExprs, TensorDesc, KernelLaunchParams):
        setattr(plugin, member.__name__, member)
    trt.plugin = plugin
    monkeypatch.setitem(sys.modules, "tensorrt", trt)
    monkeypatch.setitem(sys.modules, "tensorrt.plugin", plugin)
    return seen
