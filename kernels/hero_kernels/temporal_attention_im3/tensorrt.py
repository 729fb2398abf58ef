"""Registers hero::TemporalAttentionIM3 as a Python plugin of TensorRT. The built engine needs no Python.

    import tensorrt
    from hero_kernels.temporal_attention_im3 import tensorrt as plugin
    plugin.register()       # before parsing; then create the network with PREFER_AOT_PYTHON_PLUGINS

It needs TensorRT 10.13 or later. TensorRT-RTX has no Python plugins and takes the C++ library. The engine holds the
kernel as PTX for SM 8.0, which every later GPU compiles when the engine is loaded. The kernel's batched products use
the same tensor-core instruction on all of these GPUs.
"""

from functools import cache

from hero_kernels.temporal_attention_im3.aot import Specialisation, compile_kernel

PLUGIN_ID = "hero::TemporalAttentionIM3"
_ARCHITECTURE = "sm_80"


@cache
def register() -> None:
    """Register the plugin, once in a process. Raises ImportError without TensorRT."""
    import tensorrt as trt
    import tensorrt.plugin as trtp
    from tensorrt.plugin import TensorDesc as Tensor

    types = {trt.float16: "fp16", trt.bfloat16: "bf16", trt.float32: "fp32"}

    @trtp.register(PLUGIN_ID)
    def describe(q: Tensor, k: Tensor, v: Tensor, alpha: Tensor, num_heads: int) -> Tensor:
        return q.like()

    # without an autotune function TensorRT uses the network's types and linear layouts, which the kernel needs
    @trtp.aot_impl(PLUGIN_ID)
    def compiled(
        q: Tensor, k: Tensor, v: Tensor, alpha: Tensor, num_heads: int, outputs: tuple[Tensor], tactic: int
    ) -> tuple[str | bytes, str | bytes, trtp.KernelLaunchParams, trtp.SymIntExprs]:
        batch, frames, tokens, channels = q.shape_expr
        if not (frames.is_constant and channels.is_constant):
            raise ValueError(f"{PLUGIN_ID}: frames and channels must be static; batch and tokens may be dynamic")
        width = channels.constant_value()
        spec = Specialisation(types[q.dtype], num_heads, width // num_heads, frames.constant_value())
        binary = compile_kernel(spec, _ARCHITECTURE)

        launch = trtp.KernelLaunchParams()
        launch.grid_x = batch * trtp.cdiv(tokens * num_heads, spec.config.pairs)
        launch.block_x = binary.threads
        launch.shared_mem = binary.shared_bytes
        # the parameters between inputs and output in aot.PARAMETERS; q, k and v are contiguous
        strides = (frames * tokens * width, tokens * width, channels)
        scalars = (tokens, *strides, *strides, *strides)
        arguments = trtp.SymIntExprs(len(scalars))
        for i, value in enumerate(scalars):
            arguments[i] = trtp.SymInt32(value)
        return spec.symbol, binary.ptx, launch, arguments
