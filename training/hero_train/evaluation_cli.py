"""The commands of hero-train that measure: evaluate, ablations, alphas."""

import json as json_module
import shlex
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import BaseModel, Field
from rich.console import Console

from hero_rt.cli_options import parse_options, with_options

console = Console(soft_wrap=True, highlight=False)

Held = Annotated[list[Path], typer.Argument(help="Held-out videos; 16 frames of each are used.")]


def evaluate(
    videos: Held,
    checkpoint: Annotated[str, typer.Option(help="Checkpoint folder or Hub id.")],
    ratio: Annotated[list[float] | None, typer.Option(help="Hidden fraction of the width; repeatable.")] = None,
    steps: Annotated[int, typer.Option(min=1, help="DDIM steps.")] = 10,
    size: Annotated[int, typer.Option(min=32, help="Pixels a side.")] = 128,
    seeds: Annotated[int, typer.Option(min=1, help="Initial noises of every clip; figures are means over them.")] = 4,
    json: Annotated[Path | None, typer.Option(help="Write the figures here.")] = None,
    page: Annotated[Path | None, typer.Option(help="Write docs/quality.md here.")] = None,
) -> None:
    """Outpaint held-out clips and camera pans; PSNR, SSIM and texture beside edge, reflection and Telea.

    Figures of the hidden region. LPIPS and AAFS are added where their networks can be had, and named where not.
    """
    from hero_rt.outpainter import Outpainter
    from hero_train.evaluation.evaluate import evaluate as run
    from hero_train.evaluation.quality_page import quality_page
    from hero_train.evaluation.targets import verdicts

    outpainter = Outpainter.from_pretrained(checkpoint)
    outpainter.set_progress_bar_config(disable=True)
    results = run(outpainter, videos, ratio or [0.25, 0.5], steps, size, range(seeds), console.print)
    for verdict in verdicts(results["rows"]):
        console.print(f"{'met   ' if verdict.met else 'MISSED'} {verdict.target}: {verdict.seen}")
    if json is not None:
        json.write_text(json_module.dumps(results, indent=1) + "\n")
    if page is not None:
        names = " ".join(shlex.quote(path.name) for path in videos)
        settings = f"--checkpoint {checkpoint} --steps {steps} --seeds {seeds}"
        command = f"hero-train evaluate {names} {settings} --page {page}"
        page.write_text(quality_page(results, command))


class AblationOptions(BaseModel):
    training_steps: int = Field(2000, ge=1, description="Training steps of each variant.")
    size: int = Field(128, ge=32, description="Pixels a side.")
    learning_rate: float = Field(7e-4, gt=0, description="Of every variant.")
    steps: int = Field(10, ge=1, description="DDIM steps.")
    jobs: int = Field(1, ge=1, description="Variants at a time, on shared cores.")


@with_options(AblationOptions)
def ablations(
    start: Annotated[Path, typer.Argument(help="Where every variant starts: VAE and image encoders trained.")],
    videos: Held,
    train_on: Annotated[list[Path], typer.Option(help="A folder of training videos; repeatable.")],
    out: Annotated[Path, typer.Option(help="Folder of the runs; run again to go on.")],
    json: Annotated[Path, typer.Option(help="Write the figures here.")],
    page: Annotated[Path | None, typer.Option(help="Write docs/ablations.md here.")] = None,
    **options: Any,
) -> None:
    """Train the paper's ablations (Tables 4, 5 and 7) at a small scale, and measure each. Hours."""
    from hero_rt.models.hero import HeroModel
    from hero_train.ablations.ablations_page import ablations_page
    from hero_train.ablations.variants import AblationRun, run_variants
    from hero_train.recipe import Recipe

    asked = parse_options(AblationOptions, options)
    recipe = Recipe(
        videos=tuple(train_on),
        steps=asked.training_steps,
        size=asked.size,
        learning_rate=asked.learning_rate,
        timesteps_per_window=2,
        known_weight=0.25,
        ema_decay=0.99,
        decay_steps=asked.training_steps // 4,
        save_every=100,
    )
    run = AblationRun(start, recipe, tuple(videos), asked.steps, out)
    rows = run_variants(run, asked.jobs, console.print)
    settings = asked.model_dump(exclude={"jobs"}) | {"model": HeroModel.from_pretrained(start).config.name}
    results = {"settings": settings, "rows": rows}
    json.write_text(json_module.dumps(results, indent=1) + "\n")
    if page is not None:
        names = " ".join(shlex.quote(path.name) for path in videos)
        command = (
            f"hero-train ablations {start.name} {names} --train-on VIDEOS --out RUNS --json {json} "
            f"--page {page} --training-steps {asked.training_steps} --size {asked.size} "
            f"--learning-rate {asked.learning_rate:g} --steps {asked.steps}"
        )
        page.write_text(ablations_page(results, command))


def alphas(
    checkpoint: Annotated[str, typer.Argument(help="Checkpoint folder or Hub id.")],
    plot: Annotated[Path, typer.Option(help="The PNG to write.")],
) -> None:
    """Plot the learned blend of every motion module (the paper's Fig. 7)."""
    from hero_rt.models.hero import HeroModel
    from hero_train.ablations.alphas import plot_alphas

    plot_alphas(HeroModel.from_pretrained(checkpoint), plot)
