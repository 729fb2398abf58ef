"""Holds the reference HERO model in PyTorch. Every engine is compared with it."""

import importlib
from typing import TYPE_CHECKING

from hero_rt.spec.config import PRESETS, HeroConfig

if TYPE_CHECKING:
    from hero_rt.models.flow_encoder import FlowEncoder3D
    from hero_rt.models.hero import HeroModel
    from hero_rt.models.refnet import RefNet3D
    from hero_rt.models.unet import UNet3D

__all__ = ["PRESETS", "FlowEncoder3D", "HeroConfig", "HeroModel", "RefNet3D", "UNet3D"]

_NETWORKS = {"FlowEncoder3D": "flow_encoder", "HeroModel": "hero", "RefNet3D": "refnet", "UNet3D": "unet"}


def __getattr__(name: str) -> object:
    # lazily: what runs engines reads the config and the boundary, and need not wait for the networks' libraries
    if name in _NETWORKS:
        return getattr(importlib.import_module(f"hero_rt.models.{_NETWORKS[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
