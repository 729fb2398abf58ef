"""The built library in a real TensorRT's plugin registry: `python registry.py tensorrt_rtx libhero_plugin.so`."""

import importlib
import sys

import numpy as np


def main(module: str, library: str) -> None:
    trt = importlib.import_module(module)
    builder = trt.Builder(trt.Logger(trt.Logger.ERROR))  # gives the registry its logger
    registry = trt.get_plugin_registry()
    handle = registry.load_library(library)
    creator = registry.get_creator("TemporalAttentionIM3", "1", "hero")
    assert creator is not None, "the creator is not found"
    assert (creator.name, creator.plugin_version, creator.plugin_namespace) == ("TemporalAttentionIM3", "1", "hero")
    assert [field.name for field in creator.field_names] == ["num_heads", "plugin_namespace", "plugin_version"]

    def create(value, kind):
        field = trt.PluginField("num_heads", np.array([value], np.int32), kind)
        return creator.create_plugin("attention", trt.PluginFieldCollection([field]), trt.TensorRTPhase.BUILD)

    plugin = create(8, trt.PluginFieldType.INT32)
    assert plugin is not None, "the creator makes no plugin"
    assert create(0, trt.PluginFieldType.INT32) is None
    del plugin
    registry.deregister_library(handle)
    assert not [creator for creator in registry.all_creators if creator.name == "TemporalAttentionIM3"]
    del builder
    sys.stdout.write(f"{module} {trt.__version__}: the registry loads the library, finds its creator, makes a plugin\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
