"""Engines, the bindings of their callers, and the sets that hold them."""

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from hero_rt.closable import Closable
from hero_rt.errors import EngineError
from hero_rt.spec.boundary import Specs, TensorSpec
from hero_rt.spec.config import HeroConfig
from hero_rt.spec.profile import Profile


class Binding(Closable):
    """One caller's constants on one engine. `with` or `close` releases them.

    A binding serves one caller at a time. An engine may have any number of bindings.

    Attributes:
        constants: the bound tensors by name.
    """

    def __init__(self, constants: Mapping[str, Tensor], release: Callable[[], None] = lambda: None):
        self.constants = dict(constants)
        self._release: Callable[[], None] | None = release

    def close(self) -> None:
        """Release buffers, context and graph to their pool. Closing twice is harmless."""
        release, self._release = self._release, None
        self.constants = {}
        if release is not None:
            release()

    @property
    def closed(self) -> bool:
        return self._release is None


class Observer:
    """Is called before and after every run of an engine set. Subclasses override what they need."""

    def before_run(self, engine: "Engine", binding: Binding, inputs: Mapping[str, Tensor]) -> None:
        """See a run before it starts, in its thread. The inputs are checked."""

    def after_run(
        self, engine: "Engine", binding: Binding, inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor]
    ) -> None:
        """See a run after it, in the same thread. On a GPU the work may still be queued."""


class Engine(ABC):
    """Runs one submodule at one profile. Any thread may call `bind` and `run`.

    An engine holds no caller's state. Callers keep theirs in bindings.

    Attributes:
        name: of the engine, for messages.
        inputs: shape and dtype of each input by name.
        outputs: shape and dtype of each output by name.
        device: of inputs and outputs.
        submodule: the name under which the set opened it.
        profile: the profile for which the set opened it.
    """

    submodule = ""
    profile: Profile | None = None

    def __init__(self, name: str, inputs: Specs, outputs: Specs, device: torch.device):
        self.name, self.inputs, self.outputs, self.device = name, inputs, outputs, device
        self.observers: Iterable[Observer] = ()
        self.closed = False

    def bind(self, constants: Mapping[str, Tensor] | None = None) -> Binding:
        """Take inputs that stay the same over many runs.

        Args:
            constants: tensors by name; None binds nothing.

        Raises:
            EngineError: wrong names, shapes or dtypes, or a closed engine.
        """
        self._check_open()
        self._check(constants or {})
        return self._bind(constants or {})

    def run(self, binding: Binding, **inputs: Tensor) -> dict[str, Tensor]:
        """Run with the constants of the binding and the remaining inputs.

        Args:
            binding: of this engine.
            inputs: every input that is not bound, by name.

        Returns:
            Every output by name, in memory that belongs to the caller.

        Raises:
            EngineError: wrong or missing inputs, or a closed engine or binding.
        """
        self._check_open()
        if binding.closed:
            raise EngineError(f"{self.name}: this binding is closed; bind the constants again")
        self._check(inputs, binding.constants)
        for observer in self.observers:
            observer.before_run(self, binding, inputs)
        outputs = self._run(binding, inputs)
        for observer in self.observers:
            observer.after_run(self, binding, inputs, outputs)
        return outputs

    def __call__(self, **inputs: Tensor) -> dict[str, Tensor]:
        """Run once with every input given."""
        with self.bind() as binding:
            return self.run(binding, **inputs)

    def warm_up(self) -> None:
        """Run on zeros. This allocates memory and loads kernels. On a GPU a second run captures the CUDA graph."""
        zeros = {
            name: torch.zeros(spec.shape, dtype=spec.dtype, device=self.device) for name, spec in self.inputs.items()
        }
        for _ in range(2 if self.device.type == "cuda" else 1):
            self(**zeros)

    def close(self) -> None:
        """Release what the engine holds. A closed engine refuses to run."""
        if not self.closed:
            self.closed = True
            self._close()

    def _new_outputs(self) -> dict[str, Tensor]:
        """Return memory for the outputs of one run, by name."""
        specs = self.outputs.items()
        return {name: torch.empty(spec.shape, dtype=spec.dtype, device=self.device) for name, spec in specs}

    def _check_open(self) -> None:
        if self.closed:
            raise EngineError(f"{self.name} is closed; open the engines again")

    def _check(self, tensors: Mapping[str, Tensor], bound: Mapping[str, Tensor] | None = None) -> None:
        """Compare names, shapes, dtypes and devices with the inputs. EngineError names the first mismatch.

        bound: the checked constants of a run. If given, every input must be in it or in `tensors`.
        """
        for name, tensor in tensors.items():
            if name not in self.inputs:
                raise EngineError(f"{self.name} has no input {name!r}; it takes {', '.join(self.inputs)}")
            spec = self.inputs[name]
            if tuple(tensor.shape) != spec.shape or tensor.dtype != spec.dtype:
                seen = TensorSpec(tuple(tensor.shape), tensor.dtype)
                raise EngineError(f"{self.name}: input {name!r} is {seen}, the engine takes {spec}")
            if tensor.device.type != self.device.type:
                where = f"is on {tensor.device}, the engine runs on {self.device}"
                raise EngineError(f"{self.name}: input {name!r} {where}")
        missing = [] if bound is None else [name for name in self.inputs if name not in tensors and name not in bound]
        if missing:
            raise EngineError(f"{self.name}: input {missing[0]!r} is neither bound nor given")

    @abstractmethod
    def _bind(self, constants: Mapping[str, Tensor]) -> Binding: ...

    @abstractmethod
    def _run(self, binding: Any, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]: ...

    def _close(self) -> None:  # noqa: B027
        """Release what a format holds; there may be nothing."""


class ModuleEngine(Engine):
    """A PyTorch callable: takes `inputs` in their order, returns a tensor or a tuple in the order of `outputs`."""

    def __init__(
        self, name: str, forward: Callable[..., Any], inputs: Specs, outputs: Specs, device: torch.device | None = None
    ):
        super().__init__(name, inputs, outputs, device or torch.device("cpu"))
        self._forward = forward

    def _bind(self, constants: Mapping[str, Tensor]) -> Binding:
        return Binding(constants)

    @torch.inference_mode()
    def _run(self, binding: Binding, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        given = {**binding.constants, **inputs}
        out = self._forward(*(given[name] for name in self.inputs))
        return dict(zip(self.outputs, (out,) if isinstance(out, Tensor) else out, strict=True))


class EngineSet(Closable, ABC):
    """Holds the six submodules of one checkpoint in one format. It is a context manager.

    Engines are opened when they are first needed, and kept.

    Attributes:
        config: of the checkpoint.
        dtype: of the engines.
        device: of inputs and outputs.
        observers: append an `Observer` to see every run.
    """

    def __init__(self, config: HeroConfig, dtype: torch.dtype, device: torch.device):
        self.config, self.dtype, self.device = config, dtype, device
        self.observers: list[Observer] = []
        self._engines: dict[tuple[str, Profile], Engine] = {}
        self._lock = threading.RLock()
        self._closed = False

    def open(self, submodule: str, profile: Profile) -> Engine:
        """Return the engine of a submodule for `profile`. Raises EngineError if there is none."""
        with self._lock:
            if self._closed:
                raise EngineError(f"{self.describe()} is closed; open it again")
            key = submodule, profile.of(submodule)
            if key not in self._engines:
                engine = self._open(submodule, profile)
                engine.submodule, engine.profile, engine.observers = submodule, profile.of(submodule), self.observers
                self._engines[key] = engine
            return self._engines[key]

    def check(self, submodule: str, profile: Profile) -> None:
        """Raise EngineError if there is no engine of `submodule` for `profile`. This opens nothing."""

    def describe(self) -> str:
        return f"the engine set of {self.config.name}"

    def close(self) -> None:
        with self._lock:
            self._closed = True
            for engine in self._engines.values():
                engine.close()
            self._engines.clear()
            self._close()

    @abstractmethod
    def _open(self, submodule: str, profile: Profile) -> Engine: ...

    def _close(self) -> None:
        """Release what a format holds beside its engines; there may be nothing."""
