"""Defines how far an engine may be from the FP32 model. This module loads no library: `verify` makes options of it."""

from pydantic import BaseModel, Field


class Thresholds(BaseModel, frozen=True):
    """The limits of a comparison. The defaults are those of FP32 engines."""

    per_output: float = Field(
        1e-4, gt=0, description="Relative L2 error of one output. FP16 engines: 0.02. --eager fp16: 0.01."
    )
    latents: float = Field(1e-3, gt=0, description="Relative L2 error of the final latents. FP16: 0.05.")
    psnr: float = Field(50.0, gt=0, description="Of the frames, dB, at least. FP16: 30.0.")


THRESHOLDS = {
    "fp32": Thresholds(),
    # hero-tiny with random weights has 7e-4 to 2e-3; a trained model may have more
    "fp16": Thresholds(per_output=2e-2, latents=5e-2, psnr=30.0),
    # PyTorch's own FP16 has 1.0e-3 to 2.6e-3; an engine may add in another order
    "eager fp16": Thresholds(per_output=1e-2, latents=5e-2, psnr=30.0),
}
