"""`python -m benchmarks quality`."""

import json as json_module
import shlex
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

console = Console(soft_wrap=True, highlight=False)

Held = Annotated[list[Path], typer.Argument(help="Held-out videos; 16 frames of each are used.")]


def quality(
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
    from benchmarks.quality.page import quality_page
    from benchmarks.quality.run import evaluate
    from benchmarks.quality.targets import verdicts
    from hero_rt.outpainter import Outpainter

    outpainter = Outpainter.from_pretrained(checkpoint)
    outpainter.set_progress_bar_config(disable=True)
    results = evaluate(outpainter, videos, ratio or [0.25, 0.5], steps, size, range(seeds), console.print)
    for verdict in verdicts(results["rows"]):
        console.print(f"{'met   ' if verdict.met else 'MISSED'} {verdict.target}: {verdict.seen}")
    if json is not None:
        json.write_text(json_module.dumps(results, indent=1) + "\n")
    if page is not None:
        names = " ".join(shlex.quote(path.name) for path in videos)
        settings = f"--checkpoint {checkpoint} --steps {steps} --seeds {seeds}"
        command = f"python -m benchmarks quality {names} {settings} --page {page}"
        page.write_text(quality_page(results, command))


def ablations(
    start: Annotated[Path, typer.Argument(help="Where every variant starts: VAE and image encoders trained.")],
    videos: Held,
    train_on: Annotated[list[Path], typer.Option(help="A folder of training videos; repeatable.")],
    out: Annotated[Path, typer.Option(help="Folder of the runs; run again to go on.")],
    json: Annotated[Path, typer.Option(help="Write the figures here.")],
    page: Annotated[Path | None, typer.Option(help="Write docs/ablations.md here.")] = None,
    training_steps: Annotated[int, typer.Option(min=1, help="Of each variant.")] = 2000,
    size: Annotated[int, typer.Option(min=32, help="Pixels a side.")] = 128,
    learning_rate: Annotated[float, typer.Option()] = 7e-4,
    steps: Annotated[int, typer.Option(min=1, help="DDIM steps.")] = 10,
    jobs: Annotated[int, typer.Option(min=1, help="Variants at a time, on shared cores.")] = 1,
) -> None:
    """Train the paper's ablations (Tables 4, 5 and 7) at a small scale, and measure each. Hours."""
    from benchmarks.quality.ablations import AblationRun, run_variants
    from benchmarks.quality.ablations_page import ablations_page
    from hero_rt.models.hero import HeroModel
    from hero_rt.training.recipe import Recipe

    recipe = Recipe(
        videos=tuple(train_on),
        steps=training_steps,
        size=size,
        learning_rate=learning_rate,
        timesteps_per_window=2,
        known_weight=0.25,
        ema_decay=0.99,
        decay_steps=training_steps // 4,
        save_every=100,
    )
    run = AblationRun(start, recipe, tuple(videos), steps, out)
    rows = run_variants(run, jobs, console.print)
    settings = {
        "model": HeroModel.from_pretrained(start).config.name,
        "training_steps": training_steps,
        "size": size,
        "steps": steps,
    }
    results = {"settings": settings | {"learning_rate": learning_rate}, "rows": rows}
    json.write_text(json_module.dumps(results, indent=1) + "\n")
    if page is not None:
        names = " ".join(shlex.quote(path.name) for path in videos)
        command = (
            f"python -m benchmarks ablations {start.name} {names} --train-on VIDEOS --out RUNS --json {json} "
            f"--page {page} --training-steps {training_steps} --size {size} --learning-rate {learning_rate:g} "
            f"--steps {steps}"
        )
        page.write_text(ablations_page(results, command))


def alphas(
    checkpoint: Annotated[str, typer.Argument(help="Checkpoint folder or Hub id.")],
    plot: Annotated[Path, typer.Option(help="The PNG to write.")],
) -> None:
    """Plot the learned blend of every motion module (the paper's Fig. 7)."""
    from benchmarks.quality.alphas import plot_alphas
    from hero_rt.models.hero import HeroModel

    plot_alphas(HeroModel.from_pretrained(checkpoint), plot)
