"""The hero-rt command."""

import json
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from hero_rt.cli_errors import run_app
from hero_rt.cli_options import request_of, with_options
from hero_rt.engines.observers import ChromeTrace
from hero_rt.errors import UsageError
from hero_rt.request import OutpaintRequest, OutputOptions
from hero_rt.session import StepDone

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Outpaint videos with HERO: widen the frame of a clip and keep every original pixel.",
)
console = Console(stderr=True)


@app.command(
    epilog="""
Examples:

[bold]hero-rt outpaint in.mp4 out.mp4 --engines engines --pad 0,64,0,64[/bold]

[bold]hero-rt outpaint in.mp4 out.mp4 --checkpoint hero --task OPV --ratio 0.25 --steps 50[/bold]

[bold]hero-rt outpaint frames/ out/ --engines engines --size 512x512 --anchor bottom[/bold]   (PNG folders in and out)
"""
)
@with_options(OutpaintRequest, OutputOptions)
def outpaint(
    input: Annotated[Path, typer.Argument(help="A video file or a folder of images.")],
    output: Annotated[Path, typer.Argument(help="The video to write; without a suffix, a folder of PNGs.")],
    engines: Annotated[Path | None, typer.Option(help="Engine folder written by hero-export build-engines.")] = None,
    checkpoint: Annotated[str | None, typer.Option(help="Run the PyTorch model of this checkpoint instead.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda or cuda:N; default: what the engines allow.")] = None,
    request: Annotated[Path | None, typer.Option(help="Read this request (JSON, see hero-rt schema) first.")] = None,
    frame_rate: Annotated[str | None, typer.Option(help="Of a folder of images: a number or a fraction. [8]")] = None,
    contact_sheet: Annotated[Path | None, typer.Option(help="Also write this PNG: input and output.")] = None,
    profile: Annotated[Path | None, typer.Option(help="Also write a Chrome trace of every engine run (JSON).")] = None,
    **options: Any,
) -> None:
    """Outpaint a video."""
    from hero_rt.outpainter import Outpainter
    from hero_rt.video import contact_sheet as make_sheet
    from hero_rt.video import create_video, open_video

    asked = request_of(options, None if request is None else OutpaintRequest.read(request))
    written = OutputOptions.parse(
        {name: options[name] for name in OutputOptions.model_fields if options[name] is not None}
    )
    if (engines is None) == (checkpoint is None):
        raise UsageError("say what to run: exactly one of --engines and --checkpoint")
    for path, option in ((contact_sheet, "--contact-sheet"), (profile, "--profile")):
        if path is not None and not path.absolute().parent.is_dir():
            raise UsageError(f"{option} {path} cannot be written: there is no folder {path.parent}")
    with ExitStack() as held:
        source = held.enter_context(open_video(input, _fraction(frame_rate), asked.max_frames))
        if engines is not None:
            outpainter = Outpainter.from_engines(engines, device)
        else:
            outpainter = Outpainter.from_pretrained(str(checkpoint), device=device or "cpu")
        held.enter_context(outpainter)
        if profile is not None:
            outpainter.engines.observers.append(held.enter_context(ChromeTrace(profile)))
        bar = held.enter_context(_progress())
        task = bar.add_task("denoise", total=None)
        session = outpainter.session(
            source, asked, lambda event: bar.advance(task) if isinstance(event, StepDone) else None
        )
        plan = session.plan
        bar.update(task, total=plan.num_windows and plan.num_windows * asked.steps)
        length = f"{source.num_frames or 'unknown number of'} frames at {source.frame_rate} fps"
        console.print(f"{input}: {plan.canvas.describe()}, {length}", soft_wrap=True)
        with create_video(
            output,
            plan.canvas.width,
            plan.canvas.height,
            source.frame_rate,
            input if written.audio and source.has_audio else None,
            crf=written.crf,
            pixel_aspect=source.pixel_aspect,
        ) as writer:
            shown: np.ndarray | None = None
            for frames in session.run(source.frames()):
                writer.write(frames)
                shown = frames if shown is None else shown
        if contact_sheet is not None and shown is not None:
            make_sheet(shown, plan.canvas).save(contact_sheet)
    console.print(
        f"wrote {output}: {writer.num_frames} frames of {plan.canvas.width}x{plan.canvas.height}", soft_wrap=True
    )


@app.command(epilog="Example: [bold]hero-rt schema > request.schema.json[/bold]")
def schema() -> None:
    """Print the JSON schema of a request, as --request and the Python API take it."""
    typer.echo(json.dumps(OutpaintRequest.model_json_schema(), indent=2))


@app.command(epilog="Example: [bold]hero-rt info engines[/bold]")
def info(folder: Annotated[Path, typer.Argument(help="Engine folder.")]) -> None:
    """Show what an engine folder holds, after checking its files."""
    from hero_rt.engines.manifest import check_files, read_manifest

    manifest = read_manifest(folder)
    check_files(folder, manifest)
    target = manifest.target
    out = Console(soft_wrap=True)
    built = f"{manifest.format} {target.library_version}, {manifest.dtype}"
    out.print(f"{folder}: {manifest.config.name}, {built}, all files intact")
    out.print(f"built by hero-runtime {manifest.tool_version} from {manifest.checkpoint}")
    table = Table("engine", "profile", "file", "MiB", "weights MiB", "build s", "peak MiB")
    for engine in manifest.engines:
        weights = sum(manifest.files[name].bytes for name in engine.weights)
        table.add_row(
            engine.submodule,
            engine.profile,
            engine.file,
            f"{manifest.files[engine.file].bytes / 2**20:.1f}",
            f"{weights / 2**20:.1f}",
            f"{engine.build_seconds:.1f}",
            f"{engine.peak_memory_bytes / 2**20:.0f}",
        )
    out.print(table)


def _fraction(text: str | None) -> Fraction | None:
    if text is None:
        return None
    try:
        rate = Fraction(text)
    except (ValueError, ZeroDivisionError) as error:
        raise UsageError(f"--frame-rate {text!r} is not a number or a fraction such as 30000/1001") from error
    if rate <= 0:
        raise UsageError(f"--frame-rate {text!r} must be positive")
    return rate


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )


def main() -> None:
    run_app(app)
