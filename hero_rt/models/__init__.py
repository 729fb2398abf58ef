"""Holds the reference HERO model in PyTorch. Every engine is compared with it."""

from hero_rt.models.flow_encoder import FlowEncoder3D
from hero_rt.models.hero import HeroModel
from hero_rt.models.refnet import RefNet3D
from hero_rt.models.unet import UNet3D
from hero_rt.spec.config import PRESETS, HeroConfig

__all__ = ["PRESETS", "FlowEncoder3D", "HeroConfig", "HeroModel", "RefNet3D", "UNet3D"]
