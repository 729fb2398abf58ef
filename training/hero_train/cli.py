"""Defines the command hero-train."""

import json as json_module
import shlex
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import BaseModel, Field
from rich.console import Console

from hero_rt.cli_errors import run_app
from hero_rt.cli_options import parse_options, with_options
from hero_rt.spec.config import HeroConfig
from hero_train.recipe import AutoencoderRecipe, ClipOptions, DecoderRecipe, EncoderRecipe, Recipe, TextureRecipe

if TYPE_CHECKING:
    from hero_rt.models.hero import HeroModel

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Train HERO on folders of videos. hero-sd15 starts from `hero-export compose`; hero-tiny from nothing.",
)
console = Console(stderr=True)
figures = Console(soft_wrap=True, highlight=False)

Videos = Annotated[list[Path], typer.Option(help="A folder of videos; repeatable, with equal shares.")]
Checkpoint = Annotated[str, typer.Argument(help="Where the weights start: a folder or a Hub id.")]
Out = Annotated[Path, typer.Option(help="The checkpoint to write.")]
Held = Annotated[list[Path], typer.Argument(help="Held-out videos; 16 frames of each are used.")]
Json = Annotated[Path | None, typer.Option(help="Write the figures here.")]
Page = Annotated[Path | None, typer.Option(help="Write the page for docs/ here.")]


@app.command()
@with_options(ClipOptions)
def synthesize(
    photos: Annotated[list[Path], typer.Argument(help="Folders of photographs, with their subfolders.")],
    out: Annotated[Path, typer.Option(help="Folder of the clips.")],
    cutouts: Annotated[list[Path] | None, typer.Option(help="A folder of PNG cut-outs to move; repeatable.")] = None,
    **options: Any,
) -> None:
    """Make clips from photographs: pans, zooms, turns, parallax, changing light, grain and moving objects."""
    from hero_train import synthesize as module

    asked, found = parse_options(ClipOptions, options), module.photographs(photos)
    things = module.cutouts(cutouts or [])
    console.print(f"{len(found)} photographs, {len(things)} cut-outs")
    module.synthesize(found, out, asked, things)


@app.command()
@with_options(AutoencoderRecipe)
def autoencoder(
    videos: Videos,
    out: Out,
    preset: Annotated[str, typer.Option(help="The networks' sizes.")] = "hero-tiny",
    start: Annotated[str | None, typer.Option(help="A checkpoint to start from, in place of the preset.")] = None,
    **options: Any,
) -> None:
    """Train a VAE from random weights. The other networks of the checkpoint stay random."""
    from hero_rt.models.hero import HeroModel
    from hero_train.banks import FrameBank
    from hero_train.small_parts import train_autoencoder

    recipe, config = parse_options(AutoencoderRecipe, options), HeroConfig.from_preset(preset)
    model = _model(start) if start else HeroModel.initial(config, recipe.seed)
    train_autoencoder(model, FrameBank.of(recipe, videos, out), recipe, out / "state")
    _finish(model, out, f": VAE, scaling factor {model.config.vae['scaling_factor']:.4f}")


@app.command()
@with_options(EncoderRecipe)
def image_encoders(checkpoint: Checkpoint, videos: Videos, out: Out, **options: Any) -> None:
    """Train both image encoders to match a padded canvas with the whole frame it was cut from."""
    from hero_train.small_parts import train_image_encoders
    from hero_train.videos import VideoWindows

    recipe, model = parse_options(EncoderRecipe, options), _model(checkpoint)
    windows = VideoWindows(videos, 8, recipe.size, recipe.seed, recipe.steps * recipe.batch)
    train_image_encoders(model, windows, recipe, out / "state")
    _finish(model, out)


@app.command()
@with_options(DecoderRecipe)
def decoder(checkpoint: Checkpoint, videos: Videos, out: Out, **options: Any) -> None:
    """Train only the VAE's decoder again, to draw texture. The latents do not change, so trained networks fit."""
    _train_decoder(parse_options(DecoderRecipe, options), checkpoint, videos, out)


@app.command()
@with_options(TextureRecipe)
def texture(checkpoint: Checkpoint, videos: Videos, out: Out, **options: Any) -> None:
    """Train only the VAE's decoder a third time, on sampled latents, which are smoother than encoded ones."""
    _train_decoder(parse_options(TextureRecipe, options), checkpoint, videos, out)


def _train_decoder(recipe: DecoderRecipe, checkpoint: str, videos: list[Path], out: Path) -> None:
    from hero_train.banks import FrameBank, SampledBank
    from hero_train.small_parts import train_decoder

    model, frames, sampled = _model(checkpoint), FrameBank.of(recipe, videos, out), None
    if isinstance(recipe, TextureRecipe):
        sampled = SampledBank(model, videos, recipe.windows, recipe.window_size, recipe.seed)
    train_decoder(model, frames, recipe, out / "state", sampled)
    model.config = replace(model.config, decode_noise=recipe.decode_noise)
    _finish(model, out)


@app.command(
    epilog="""
Examples:

[bold]hero-train outpainter hero-sd15-composed --videos clips --out run --steps 100000 --mixed-precision bf16[/bold]

[bold]hero-train outpainter start --videos synthetic --videos real --out run --steps 6000 --size 128[/bold]

The same command resumes a stopped run. Several GPUs: [bold]accelerate launch -m hero_train.cli[/bold].
"""
)
@with_options(Recipe)
def outpainter(
    checkpoint: Checkpoint,
    out: Annotated[Path, typer.Option(help="Folder of the run: log.jsonl, state/ and model/.")],
    ofe_timestep: Annotated[str | None, typer.Option(help="Ablation: 'synced' feeds the flow encoder t.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu or cuda; default: the GPU, if any.")] = None,
    **options: Any,
) -> None:
    """Train the UNet, the RefNet, the flow encoder and the image projection (HERO, Eq. 1)."""
    import torch

    from hero_train.trainer import train

    recipe = parse_options(Recipe, options)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    model = _model(checkpoint, device=device)
    if ofe_timestep is not None:
        model.set_ofe_timestep(ofe_timestep)
    train(model, recipe, out)
    console.print(f"wrote {out / 'model'}")


@app.command()
def pack(
    checkpoint: Annotated[Path, typer.Argument(help="The model folder of a run.")],
    out: Annotated[Path, typer.Option(help="The checkpoint to write.")],
) -> None:
    """Write a checkpoint in half precision, for distribution."""
    import torch

    _model(checkpoint, dtype=torch.float16).save_pretrained(out)
    size = sum(path.stat().st_size for path in out.rglob("*.safetensors"))
    console.print(f"wrote {out}: {size / 1e6:.1f} MB")


@app.command()
def evaluate(
    videos: Held,
    checkpoint: Annotated[str, typer.Option(help="Checkpoint folder or Hub id.")],
    ratio: Annotated[list[float] | None, typer.Option(help="Hidden fraction of the width; repeatable.")] = None,
    steps: Annotated[int, typer.Option(min=1, help="DDIM steps.")] = 10,
    size: Annotated[int, typer.Option(min=32, help="Pixels a side.")] = 128,
    seeds: Annotated[int, typer.Option(min=1, help="Initial noises per clip; figures are means over these.")] = 4,
    json: Json = None,
    page: Page = None,
) -> None:
    """Outpaint held-out clips and camera pans, and compare with edge, reflection and Telea.

    Figures (PSNR, SSIM, texture) are of the hidden region. LPIPS and AAFS are added if their networks are available.
    """
    from hero_rt.outpainter import Outpainter
    from hero_train.evaluation.evaluate import evaluate
    from hero_train.evaluation.pages import quality_page
    from hero_train.evaluation.targets import verdicts

    outpainter = Outpainter.from_pretrained(checkpoint)
    results = evaluate(outpainter, videos, ratio or [0.25, 0.5], steps, size, range(seeds), figures.print)
    for verdict in verdicts(results["rows"]):
        figures.print(f"{'met   ' if verdict.met else 'MISSED'} {verdict.target}: {verdict.seen}")
    names = [path.name for path in videos]
    command = ["evaluate", *names, "--checkpoint", checkpoint, "--steps", steps, "--seeds", seeds, "--page", page]
    _write(results, json, page, quality_page, command)


class AblationOptions(BaseModel):
    training_steps: int = Field(2000, ge=1, description="Training steps of each variant.")
    size: int = Field(128, ge=32, description="Pixels a side.")
    learning_rate: float = Field(7e-4, gt=0, description="Of every variant.")
    steps: int = Field(10, ge=1, description="DDIM steps.")
    jobs: int = Field(1, ge=1, description="Variants at a time, on shared cores.")


@app.command()
@with_options(AblationOptions)
def ablations(
    start: Annotated[Path, typer.Argument(help="Checkpoint with trained VAE and image encoders.")],
    videos: Held,
    train_on: Annotated[list[Path], typer.Option(help="A folder of training videos; repeatable.")],
    out: Annotated[Path, typer.Option(help="Folder of the runs; the same command resumes.")],
    json: Annotated[Path, typer.Option(help="Write the figures here.")],
    page: Page = None,
    **options: Any,
) -> None:
    """Train and measure the paper's ablations (Tables 4, 5 and 7) at a small scale. This takes hours."""
    from hero_train.ablations.variants import RECIPE, AblationRun, run_variants
    from hero_train.evaluation.pages import ablations_page

    asked = parse_options(AblationOptions, options)
    shared = {"steps": asked.training_steps, "decay_steps": asked.training_steps // 4} | RECIPE
    recipe = Recipe(videos=tuple(train_on), size=asked.size, learning_rate=asked.learning_rate, **shared)
    rows = run_variants(AblationRun(start, recipe, tuple(videos), asked.steps, out), asked.jobs, figures.print)
    settings = asked.model_dump(exclude={"jobs"})
    name = _model(start).config.name
    names = [path.name for path in videos]
    command: list[Any] = ["ablations", start.name, *names, "--train-on", "VIDEOS", "--out", "RUNS"]
    command += ["--json", json, "--page", page]
    command += [part for key, value in settings.items() for part in (f"--{key.replace('_', '-')}", f"{value:g}")]
    _write({"settings": settings | {"model": name}, "rows": rows}, json, page, ablations_page, command)


@app.command()
def alphas(
    checkpoint: Annotated[str, typer.Argument(help="Checkpoint folder or Hub id.")],
    plot: Annotated[Path, typer.Option(help="The PNG to write.")],
) -> None:
    """Plot the learned blend of every motion module (the paper's Fig. 7)."""
    from hero_train.ablations.alphas import plot_alphas

    plot_alphas(_model(checkpoint), plot)


def _model(checkpoint: str | Path, **options: Any) -> "HeroModel":
    from hero_rt.models.hero import HeroModel

    return HeroModel.from_pretrained(checkpoint, **options)


def _finish(model: "HeroModel", out: Path, note: str = "") -> None:
    """Write the checkpoint, then remove the states of the run."""
    model.save_pretrained(out)
    shutil.rmtree(out / "state", ignore_errors=True)
    console.print(f"wrote {out}{note}")


def _write(
    results: dict[str, Any], json: Path | None, page: Path | None, render: Callable[..., str], command: list[Any]
) -> None:
    """Write the figures, and the page with figures and command."""
    if json is not None:
        json.write_text(json_module.dumps(results, indent=1) + "\n")
    if page is not None:
        page.write_text(render(results, shlex.join(["hero-train", *map(str, command)])))


def main() -> None:
    run_app(app)


if __name__ == "__main__":
    main()
