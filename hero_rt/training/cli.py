"""The hero-train command."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import ValidationError
from rich.console import Console

from hero_rt.cli_errors import run_app
from hero_rt.errors import UsageError

if TYPE_CHECKING:
    from hero_rt.models.hero import HeroModel
    from hero_rt.training.minimise import SmallRecipe

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Train HERO on folders of videos. hero-sd15 starts from `hero-export compose`; hero-tiny from nothing.",
)
console = Console(stderr=True)

Videos = Annotated[list[Path], typer.Option(help="A folder of videos; repeat it, each has an equal share.")]
Checkpoint = Annotated[str, typer.Argument(help="Where the weights start: a folder or a Hub id.")]
Pairs = Annotated[int, typer.Option(help="Pairs of successive frames kept in memory, to cut crops from.")]
DecodeNoise = Annotated[float, typer.Option(help="Noise of the latents that are decoded, where the scene moves.")]
BankSize = Annotated[int, typer.Option(help="Pixels a side of a kept frame.")]
Batch = Annotated[int, typer.Option(help="Crops a step.")]
Crop = Annotated[int, typer.Option(help="Pixels a side of a crop.")]
SmallRate = Annotated[float, typer.Option(help="Learning rate; over the last two fifths it falls to a hundredth.")]
Bf16 = Annotated[bool, typer.Option(help="BF16 autocast: faster on a CPU with AVX512-BF16.")]
SmallSaveEvery = Annotated[int, typer.Option(help="Steps between states to go on from, in OUT/state.")]


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
    from hero_rt.training import synthesize as module

    found = module.photographs(photos)
    things = module.cutouts(cutouts or [])
    console.print(f"{len(found)} photographs, {len(things)} cut-outs")
    module.synthesize(found, out, count, size, frames, seed, jobs, things)


@app.command()
def autoencoder(
    videos: Videos,
    out: Annotated[Path, typer.Option(help="The checkpoint to write.")],
    preset: Annotated[str, typer.Option(help="The networks' sizes.")] = "hero-tiny",
    start: Annotated[str | None, typer.Option(help="A checkpoint to go on from, in place of the preset.")] = None,
    steps: Annotated[int, typer.Option()] = 20_000,
    batch: Batch = 16,
    crop: Crop = 64,
    learning_rate: SmallRate = 1e-3,
    bf16: Bf16 = False,
    pairs: Pairs = 3000,
    size: BankSize = 160,
    save_every: SmallSaveEvery = 500,
    seed: Annotated[int, typer.Option()] = 0,
) -> None:
    """Train a VAE from nothing, into a checkpoint whose other networks are fresh: where no weights are public."""
    from hero_rt.models.hero import HeroModel
    from hero_rt.spec.config import HeroConfig
    from hero_rt.training.frame_bank import FrameBank
    from hero_rt.training.small_parts import train_autoencoder

    recipe = _small_recipe(
        steps=steps,
        batch=batch,
        crop=crop,
        learning_rate=learning_rate,
        bf16=bf16,
        save_every=save_every,
        seed=seed,
    )
    fresh = start is None
    model = HeroModel.initial(HeroConfig.from_preset(preset), seed) if fresh else HeroModel.from_pretrained(str(start))
    train_autoencoder(model, FrameBank(videos, pairs, size, seed, out / "state" / "frames.npy"), recipe, out / "state")
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
    save_every: SmallSaveEvery = 50,
    seed: Annotated[int, typer.Option()] = 0,
) -> None:
    """Train both image encoders: to tell a padded canvas from others by what its whole scene looks like."""
    from hero_rt.models.hero import HeroModel
    from hero_rt.training.small_parts import train_image_encoders
    from hero_rt.training.videos import VideoWindows

    recipe = _small_recipe(steps=steps, batch=batch, save_every=save_every, seed=seed)
    model = HeroModel.from_pretrained(checkpoint)
    train_image_encoders(model, VideoWindows(videos, 8, size, seed, steps * batch), recipe, out / "state")
    _finish(model, out)
    console.print(f"wrote {out}")


@app.command()
def decoder(
    checkpoint: Checkpoint,
    videos: Videos,
    out: Annotated[Path, typer.Option(help="The checkpoint to write.")],
    steps: Annotated[int, typer.Option(help="Of pairs of crops.")] = 4000,
    batch: Batch = 12,
    crop: Crop = 64,
    learning_rate: SmallRate = 1e-3,
    bf16: Bf16 = False,
    decode_noise: DecodeNoise = 0.22,
    pairs: Pairs = 3000,
    size: BankSize = 160,
    save_every: SmallSaveEvery = 500,
    seed: Annotated[int, typer.Option()] = 0,
) -> None:
    """Train the VAE's decoder a second time, alone, to draw texture; the latents, and what learned on them, stay."""
    from dataclasses import replace

    from hero_rt.models.hero import HeroModel
    from hero_rt.training.frame_bank import FrameBank
    from hero_rt.training.small_parts import train_decoder

    recipe = _small_recipe(
        steps=steps,
        batch=batch,
        crop=crop,
        learning_rate=learning_rate,
        bf16=bf16,
        save_every=save_every,
        seed=seed,
    )
    model = HeroModel.from_pretrained(checkpoint)
    train_decoder(model, FrameBank(videos, pairs, size, seed, out / "state" / "frames.npy"), recipe, out / "state")
    model.config = replace(model.config, decode_noise=decode_noise)
    _finish(model, out)
    console.print(f"wrote {out}")


@app.command()
def texture(
    checkpoint: Checkpoint,
    videos: Videos,
    out: Annotated[Path, typer.Option(help="The checkpoint to write.")],
    steps: Annotated[int, typer.Option(help="Of pairs of crops, half encoded, half sampled.")] = 3000,
    batch: Batch = 12,
    crop: Crop = 64,
    learning_rate: SmallRate = 1e-3,
    bf16: Bf16 = False,
    decode_noise: DecodeNoise = 0.22,
    windows: Annotated[int, typer.Option(help="Windows that are outpainted first, to cut sampled crops from.")] = 200,
    window_size: Annotated[int, typer.Option(help="Pixels a side of these.")] = 128,
    pairs: Pairs = 3000,
    size: BankSize = 160,
    save_every: SmallSaveEvery = 500,
    seed: Annotated[int, typer.Option()] = 0,
) -> None:
    """Train the VAE's decoder a third time, alone, on what the checkpoint's own sampler makes: that is smoother."""
    from dataclasses import replace

    from hero_rt.models.hero import HeroModel
    from hero_rt.training.frame_bank import FrameBank
    from hero_rt.training.sampled_bank import SampledBank
    from hero_rt.training.small_parts import train_texture

    recipe = _small_recipe(
        steps=steps,
        batch=batch,
        crop=crop,
        learning_rate=learning_rate,
        bf16=bf16,
        save_every=save_every,
        seed=seed,
    )
    model = HeroModel.from_pretrained(checkpoint)
    sampled = SampledBank(model, videos, windows, window_size, seed)
    train_texture(
        model, FrameBank(videos, pairs, size, seed, out / "state" / "frames.npy"), sampled, recipe, out / "state"
    )
    model.config = replace(model.config, decode_noise=decode_noise)
    _finish(model, out)
    console.print(f"wrote {out}")


@app.command(
    epilog="""
Examples:

[bold]hero-train outpainter hero-sd15-composed --videos clips --out run --steps 100000 --mixed-precision bf16[/bold]

[bold]hero-train outpainter start --videos synthetic --videos real --out run --steps 6000 --size 128[/bold]

The same line again goes on where it was stopped. Several GPUs: [bold]accelerate launch -m hero_rt.training.cli[/bold].
"""
)
def outpainter(
    checkpoint: Checkpoint,
    videos: Videos,
    out: Annotated[Path, typer.Option(help="Folder of the run: log.jsonl, state/ and model/.")],
    steps: Annotated[int, typer.Option(help="Optimiser steps in all.")],
    size: Annotated[int, typer.Option(help="Pixels a side of a training window.")] = 256,
    windows_per_step: Annotated[
        int, typer.Option(help="Windows a step, on each device: the paper's accumulation; it has 16 devices.")
    ] = 16,
    timesteps_per_window: Annotated[int, typer.Option(help="Timesteps that share one RefNet and flow pass.")] = 1,
    learning_rate: Annotated[float, typer.Option(help="The paper's, which is constant.")] = 1e-4,
    weight_decay: Annotated[float, typer.Option()] = 1e-2,
    warmup_steps: Annotated[int, typer.Option(help="An addition to the paper.")] = 0,
    decay_steps: Annotated[
        int, typer.Option(help="Steps at the end, over which the rate falls to zero: an addition.")
    ] = 0,
    ema_decay: Annotated[
        float, typer.Option(help="Of the moving average that becomes the checkpoint: an addition.")
    ] = 0.9999,
    semantic_dropout: Annotated[float, typer.Option(help="Share of windows without CLIP references.")] = 0.1,
    noise_offset: Annotated[
        float, typer.Option(help="Smooth noise on top, against colours that drift: its deviation; an addition.")
    ] = 0.0,
    known_weight: Annotated[
        float, typer.Option(help="Weight of the loss where the frame is known: an addition.")
    ] = 1.0,
    hold_at_zero: Annotated[
        list[str] | None, typer.Option(help="Ablation: parameters by shell pattern, kept zero; repeatable.")
    ] = None,
    ofe_timestep: Annotated[str | None, typer.Option(help="Ablation: 'synced' feeds the flow encoder t.")] = None,
    mixed_precision: Annotated[str, typer.Option(help="no, fp16 or bf16.")] = "no",
    compile: Annotated[bool, typer.Option(help="torch.compile: minutes at the start, for a faster step.")] = False,
    workers: Annotated[int, typer.Option(help="Processes that decode videos.")] = 0,
    save_every: Annotated[int, typer.Option(help="Steps between states to resume from.")] = 500,
    seed: Annotated[int, typer.Option()] = 0,
    device: Annotated[str | None, typer.Option(help="cpu or cuda; the best there is by default.")] = None,
) -> None:
    """Train the UNet, the RefNet, the flow encoder and the image projection (HERO, Eq. 1)."""
    import torch

    from hero_rt.models.hero import HeroModel
    from hero_rt.training.recipe import Recipe
    from hero_rt.training.trainer import train

    values = {key: value for key, value in locals().items() if key in Recipe.model_fields and value is not None}
    try:
        recipe = Recipe.model_validate(values)
    except ValidationError as error:
        raise _usage_error(error) from error
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


def _small_recipe(**values: Any) -> "SmallRecipe":
    from hero_rt.training.minimise import SmallRecipe

    try:
        return SmallRecipe.model_validate(values)
    except ValidationError as error:
        raise _usage_error(error) from error


def _usage_error(error: ValidationError) -> UsageError:
    first = error.errors()[0]
    option = "--" + str(first["loc"][0]).replace("_", "-")
    return UsageError(f"{option} is {first['input']!r}: {first['msg']}")


def _finish(model: "HeroModel", out: Path) -> None:
    """Write the checkpoint, then remove the states that led to it."""
    model.save_pretrained(out)
    shutil.rmtree(out / "state", ignore_errors=True)


def main() -> None:
    run_app(app)


if __name__ == "__main__":
    main()
