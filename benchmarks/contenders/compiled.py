"""torch.compile of the eager model's submodules: default, and max-autotune with CUDA graphs."""

import torch
from torch import Tensor, nn

from hero_rt.engines.eager import ModuleEngine
from hero_rt.engines.engine import EngineSet
from hero_rt.models.hero import HeroModel
from hero_rt.models.submodules import build_submodule
from hero_rt.spec.boundary import submodule_io
from hero_rt.spec.profile import Profile


class CompiledEngines(EngineSet):
    """Each submodule compiled at its static shapes when it first runs. `mode` is torch.compile's."""

    def __init__(self, model: HeroModel, mode: str):
        super().__init__(model.config, model.dtype, model.device)
        self.model, self._mode = model, mode

    def _open(self, submodule: str, profile: Profile) -> ModuleEngine:
        inputs, outputs = submodule_io(submodule, self.config, profile, self.dtype)
        module = self._compile(build_submodule(self.model, submodule, profile))
        return ModuleEngine(f"compile-{self._mode} {submodule} {profile}", module, inputs, outputs, self.device)

    def _compile(self, module: nn.Module):
        compiled = torch.compile(module, mode=self._mode, fullgraph=True, dynamic=False)
        if self._mode == "default" or self.device.type != "cuda":
            return compiled

        def own_outputs(*inputs: Tensor):
            """Graphs hand out buffers that their next replay overwrites."""
            torch.compiler.cudagraph_mark_step_begin()
            return torch.utils._pytree.tree_map(torch.clone, compiled(*inputs))

        return own_outputs
