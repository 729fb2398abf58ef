"""The hero-train command."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import BaseModel, Field
from rich.console import Console

from hero_rt.cli_errors import run_app
from hero_rt.cli_options import parse_options, with_options
from hero_rt.spec.config import HeroConfig
from hero_train.evaluation_cli import ablations, alphas, evaluate
from hero_train.recipe import Recipe, SmallRecipe

if TYPE_CHECKING:
    from hero_rt.models.hero import HeroModel
    from hero_train.frame_bank import FrameBank

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Train HERO on folders of videos. hero-sd15 starts from `hero-export compose`; hero-tiny from nothing.",
)
console = Console(stderr=True)

Videos = Annotated[list[Path], typer.Option(help="A folder of videos; repeat it, each has an equal share.")]
Checkpoint = Annotated[str, typer.Argument(help="Where the weights start: a folder or a Hub id.")]
Out = Annotated[Path, typer.Option(help="The checkpoint to write.")]
DecodeNoise = Annotated[float, typer.Option(help="Noise of the latents that are decoded, where the scene moves.")]


class BankOptions(BaseModel):
    """Frames that are kept in memory, to cut crops from."""

    pairs: int = Field(3000, ge=1, description="Pairs of successive frames kept in memory, to cut crops from.")
    size: int = Field(160, ge=32, description="Pixels a side of a kept frame.")

    def bank(self, videos: list[Path], seed: int, out: Path) -> "FrameBank":
        from hero_train.frame_bank import FrameBank

        return FrameBank(videos, self.pairs, self.size, seed, out / "state" / "frames.npy")


@app.command()
def synthesize(
    photos: Annotated[list[Path], typer.Argument(help="Folders of photographs, searched to the bottom.")],
    out: Annotated[Path, typer.Option(help="Folder of the clips.")],
    count: Annotated[int, typer.Option(help="Clips in all; those already there are kept.")] = 1600,
    size: Annotated[int, typer.Option(help="Pixels a side.")] = 160,
    frames: Annotated[int, typer.Option(help="Frames a clip.")] = 24,
    seed: Annotated[int, typer.Option()] = 0,
    jobs: Annotated[int, typer.Option(help="Processes.")] = 1,
    cutouts: Annotated[
        list[Path] | None, typer.Option(help="A folder of PNG files with transparency that move across; repeatable.")
    ] = None,
) -> None:
    """Make clips from photographs: pans, zooms, turns, parallax, changing light, grain and things that move."""
    from hero_train import synthesize as module

    found = module.photographs(photos)
    things = module.cutouts(cutouts or [])
    console.print(f"{len(found)} photographs, {len(things)} cut-outs")
    module.synthesize(found, out, count, size, frames, seed, jobs, things)


class AutoencoderRecipe(SmallRecipe):
    steps: int = Field(20_000, ge=1, description="Steps of pairs of crops.")
    batch: int = Field(16, ge=1, description="Crops a step.")


@app.command()
@with_options(AutoencoderRecipe, BankOptions)
def autoencoder(
    videos: Videos,
    out: Out,
    preset: Annotated[str, typer.Option(help="The networks' sizes.")] = "hero-tiny",
    start: Annotated[str | None, typer.Option(help="A checkpoint to go on from, in place of the preset.")] = None,
    **options: Any,
) -> None:
    """Train a VAE from nothing, into a checkpoint whose other networks are fresh: where no weights are public."""
    from hero_rt.models.hero import HeroModel
    from hero_train.small_parts import train_autoencoder

    recipe = parse_options(AutoencoderRecipe, options)
    frames = parse_options(BankOptions, options).bank(videos, recipe.seed, out)
    fresh = start is None
    config = HeroConfig.from_preset(preset)
    model = HeroModel.initial(config, recipe.seed) if fresh else HeroModel.from_pretrained(str(start))
    train_autoencoder(model, frames, recipe, out / "state")
    _finish(model, out)
    console.print(f"wrote {out}: VAE, scaling factor {model.config.vae['scaling_factor']:.4f}")


@app.command()
def image_encoders(
    checkpoint: Checkpoint,
    videos: Videos,
    out: Annotated[Path, typer.Option(help="The checkpoint to write.")],
    steps: Annotated[int, typer.Option(help="Of each encoder, BATCH pairs of canvas and whole frame each.")] = 250,
    batch: Annotated[int, typer.Option(help="Pairs a step.")] = 48,
    size: Annotated[int, typer.Option(help="Pixels a side of a training frame.")] = 128,
    save_every: Annotated[int, typer.Option(help="Steps between states to go on from, in OUT/state.")] = 50,
    seed: Annotated[int, typer.Option()] = 0,
) -> None:
    """Train both image encoders: to tell a padded canvas from others by what its whole scene looks like."""
    from hero_rt.models.hero import HeroModel
    from hero_train.small_parts import train_image_encoders
    from hero_train.videos import VideoWindows

    own = {"steps": steps, "batch": batch, "save_every": save_every, "seed": seed}
    recipe = parse_options(SmallRecipe, own)
    model = HeroModel.from_pretrained(checkpoint)
    train_image_encoders(model, VideoWindows(videos, 8, size, seed, steps * batch), recipe, out / "state")
    _finish(model, out)
    console.print(f"wrote {out}")


class DecoderRecipe(SmallRecipe):
    steps: int = Field(4000, ge=1, description="Steps of pairs of crops.")


@app.command()
@with_options(DecoderRecipe, BankOptions)
def decoder(checkpoint: Checkpoint, videos: Videos, out: Out, decode_noise: DecodeNoise = 0.22, **options: Any) -> None:
    """Train the VAE's decoder a second time, alone, to draw texture; the latents, and what learned on them, stay."""
    from hero_rt.models.hero import HeroModel
    from hero_train.small_parts import train_decoder

    recipe = parse_options(DecoderRecipe, options)
    frames = parse_options(BankOptions, options).bank(videos, recipe.seed, out)
    model = HeroModel.from_pretrained(checkpoint)
    train_decoder(model, frames, recipe, out / "state")
    model.config = replace(model.config, decode_noise=decode_noise)
    _finish(model, out)
    console.print(f"wrote {out}")


class TextureRecipe(SmallRecipe):
    steps: int = Field(3000, ge=1, description="Steps of pairs of crops, half encoded, half sampled.")


@app.command()
@with_options(TextureRecipe, BankOptions)
def texture(
    checkpoint: Checkpoint,
    videos: Videos,
    out: Out,
    decode_noise: DecodeNoise = 0.22,
    windows: Annotated[int, typer.Option(help="Windows that are outpainted first, to cut sampled crops from.")] = 200,
    window_size: Annotated[int, typer.Option(help="Pixels a side of these.")] = 128,
    **options: Any,
) -> None:
    """Train the VAE's decoder a third time, alone, on what the checkpoint's own sampler makes: that is smoother."""
    from hero_rt.models.hero import HeroModel
    from hero_train.sampled_bank import SampledBank
    from hero_train.small_parts import train_texture

    recipe = parse_options(TextureRecipe, options)
    frames = parse_options(BankOptions, options).bank(videos, recipe.seed, out)
    model = HeroModel.from_pretrained(checkpoint)
    sampled = SampledBank(model, videos, windows, window_size, recipe.seed)
    train_texture(model, frames, sampled, recipe, out / "state")
    model.config = replace(model.config, decode_noise=decode_noise)
    _finish(model, out)
    console.print(f"wrote {out}")


@app.command(
    epilog="""
Examples:

[bold]hero-train outpainter hero-sd15-composed --videos clips --out run --steps 100000 --mixed-precision bf16[/bold]

[bold]hero-train outpainter start --videos synthetic --videos real --out run --steps 6000 --size 128[/bold]

The same line again goes on where it was stopped. Several GPUs: [bold]accelerate launch -m hero_train.cli[/bold].
"""
)
@with_options(Recipe)
def outpainter(
    checkpoint: Checkpoint,
    out: Annotated[Path, typer.Option(help="Folder of the run: log.jsonl, state/ and model/.")],
    ofe_timestep: Annotated[str | None, typer.Option(help="Ablation: 'synced' feeds the flow encoder t.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu or cuda; the best there is by default.")] = None,
    **options: Any,
) -> None:
    """Train the UNet, the RefNet, the flow encoder and the image projection (HERO, Eq. 1)."""
    import torch

    from hero_rt.models.hero import HeroModel
    from hero_train.trainer import train

    recipe = parse_options(Recipe, options)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    model = HeroModel.from_pretrained(checkpoint, device=device)
    if ofe_timestep is not None:
        model.set_ofe_timestep(ofe_timestep)
    train(model, recipe, out)
    console.print(f"wrote {out / 'model'}")


@app.command()
def pack(
    checkpoint: Annotated[Path, typer.Argument(help="The model folder of a run.")],
    out: Annotated[Path, typer.Option(help="The checkpoint to write.")],
) -> None:
    """Write a checkpoint in half precision: half the size, for handing on."""
    import torch

    from hero_rt.models.hero import HeroModel

    HeroModel.from_pretrained(checkpoint, torch.float16).save_pretrained(out)
    size = sum(path.stat().st_size for path in out.rglob("*.safetensors"))
    console.print(f"wrote {out}: {size / 1e6:.1f} MB")


def _finish(model: "HeroModel", out: Path) -> None:
    """Write the checkpoint, then remove the states that led to it."""
    model.save_pretrained(out)
    shutil.rmtree(out / "state", ignore_errors=True)


for command in (evaluate, ablations, alphas):
    app.command()(command)


def main() -> None:
    run_app(app)


if __name__ == "__main__":
    main()
