"""Decodes clean latents to frames."""

import numpy as np
from torch import Tensor

from hero_rt.engines.engine import EngineSet
from hero_rt.errors import EngineError
from hero_rt.spec.canvas import Canvas
from hero_rt.spec.profile import Profile
from hero_rt.stages.composite import composite
from hero_rt.stages.prepare import run_submodule


def decode_window(
    engines: EngineSet, profile: Profile, canvas: Canvas, latents: Tensor, source: np.ndarray, feather: int
) -> np.ndarray:
    """Decode one window's latents [F, 4, h, w], and place the source uint8 [F, h, w, 3] in the frames.

    Returns uint8 [F, H, W, 3]. Raises EngineError where the decoder returns values that are not finite.
    """
    decoded = run_submodule(engines, "vae_decoder", profile, latents=latents)["frames"]
    if not decoded.isfinite().all():
        raise EngineError(
            f"vae_decoder {profile} returned values that are not finite: an FP16 overflow or broken weights; "
            "run FP32 engines to tell which"
        )
    return composite(canvas, decoded, source, feather)
