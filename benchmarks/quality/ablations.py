"""The paper's ablations at the small scale: train each variant alike, from the same start, and measure it alike.

A variant is parameters held at zero while training, so that what they would contribute is nothing in training and at
inference. RefNet features at zero leave keys and values of zero beside the UNet's own: a constant share of each
softmax, which the UNet learns with.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.quality.run import MODEL, evaluate
from hero_rt.models.hero import HeroModel
from hero_rt.outpainter import Outpainter
from hero_rt.training.recipe import Recipe
from hero_rt.training.trainer import train


@dataclass(frozen=True)
class Variant:
    """A row of one of the paper's tables."""

    name: str
    table: str
    hold_at_zero: tuple[str, ...] = ()
    ofe_timestep: str = "zero"


_NO_FLOW = "flow_encoder.controlnet_*_block*"
_NO_REFNET = "refnet.*attentions.*.transformer_blocks.0.norm1.*"
VARIANTS = (
    Variant("whole", "all"),
    Variant("no IM3", "Table 4", ("*.im3_alpha",)),
    Variant("no IM3 in the RefNet", "Table 4", ("refnet.*.im3_alpha",)),
    Variant("no flow encoder, no RefNet", "Table 5", (_NO_FLOW, _NO_REFNET)),
    Variant("no flow encoder", "Table 5", (_NO_FLOW,)),
    Variant("flow encoder with t", "Table 5", ofe_timestep="synced"),
    Variant("no RefNet", "Table 5", (_NO_REFNET,)),
    Variant("CLIP alone", "Table 7", ("*.attn2.to_v_ip.*",)),
    Variant("OpenCLIP alone", "Table 7", ("*.attn2.to_v.weight",)),
)


def run_variants(
    start: Path, recipe: Recipe, videos: list[Path], steps: int, out: Path, progress: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Train (or go on training) every variant from the checkpoint `start` into out/<name>, and measure each.

    videos: held out; steps: DDIM steps. Returns a row a variant: the means of its figures over clips and ratios.
    """
    rows = []
    for variant in VARIANTS:
        folder = out / variant.name.replace(" ", "-")
        model = HeroModel.from_pretrained(start)
        model.set_ofe_timestep(variant.ofe_timestep)
        train(model, recipe.model_copy(update={"hold_at_zero": variant.hold_at_zero}), folder)
        outpainter = Outpainter.from_pretrained(folder / "model")
        outpainter.set_progress_bar_config(disable=True)
        results = evaluate(outpainter, videos, [0.25, 0.5], steps, recipe.size, recipe.seed, progress)
        own = [row for row in results["rows"] if row["method"] == MODEL]
        figures = ("mse", "psnr", "ssim", "gradient_energy", "adjacent_ssim")
        means = {name: round(sum(row[name] for row in own) / len(own), 4) for name in figures}
        rows.append({"variant": variant.name, "table": variant.table, "steps": recipe.steps} | means)
    return rows
