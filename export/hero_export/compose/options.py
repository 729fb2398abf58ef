"""Names the public weights of a composition. This module loads no library: the command makes its options from it."""

from pydantic import BaseModel, Field


class ComposeOptions(BaseModel, frozen=True):
    """Folders, single files or Hub ids of the weights beside Stable Diffusion's."""

    motion_adapter: str = Field(description="AnimateDiff v1, v2 or v3: MotionAdapter or original names.")
    ip_adapter: str = Field(description="IP-Adapter for SD 1.5 (ViT-H, 4 tokens), .safetensors.")
    image_encoder: str = Field(description="OpenAI CLIP ViT-L/14.")
    image_encoder_2: str = Field(description="OpenCLIP ViT-H/14, IP-Adapter's image encoder.")
    flow_encoder: str = Field(
        "random", description="It starts 'random', as in the paper, or from the 'unet' as a ControlNet does."
    )


class Sources(ComposeOptions):
    """All weights of a composition."""

    stable_diffusion: str
