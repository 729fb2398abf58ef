"""`python -m benchmarks quality`."""

import json as json_module
import shlex
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

console = Console(soft_wrap=True, highlight=False)


def quality(
    videos: Annotated[list[Path], typer.Argument(help="Held-out videos; 16 frames of each are used.")],
    checkpoint: Annotated[str, typer.Option(help="Checkpoint folder or Hub id.")] = "hero-tiny",
    ratio: Annotated[list[float] | None, typer.Option(help="Hidden fraction of the width; repeatable.")] = None,
    steps: Annotated[int, typer.Option(min=1, help="DDIM steps.")] = 10,
    size: Annotated[int, typer.Option(min=32, help="Pixels a side.")] = 128,
    seed: Annotated[int, typer.Option(help="Of the initial noise.")] = 0,
    json: Annotated[Path | None, typer.Option(help="Write the figures here.")] = None,
    page: Annotated[Path | None, typer.Option(help="Write docs/quality.md here.")] = None,
) -> None:
    """Outpaint held-out clips and camera pans; PSNR, SSIM and texture beside edge, reflection and Telea.

    LPIPS, FVD and AAFS need networks whose weights are not at hand on a machine with no hub; they are not computed.
    """
    from benchmarks.quality.page import quality_page
    from benchmarks.quality.run import evaluate
    from benchmarks.quality.targets import verdicts
    from hero_rt.outpainter import Outpainter

    outpainter = Outpainter.from_pretrained(checkpoint)
    outpainter.set_progress_bar_config(disable=True)
    results = evaluate(outpainter, videos, ratio or [0.25, 0.5], steps, size, seed, console.print)
    for verdict in verdicts(results["rows"]):
        console.print(f"{'met   ' if verdict.met else 'MISSED'} {verdict.target}: {verdict.seen}")
    if json is not None:
        json.write_text(json_module.dumps(results, indent=1) + "\n")
    if page is not None:
        names = " ".join(shlex.quote(path.name) for path in videos)
        command = f"python -m benchmarks quality {names} --checkpoint {checkpoint} --steps {steps} --page {page}"
        page.write_text(quality_page(results, command))
