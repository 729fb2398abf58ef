"""The hero-rt command."""

from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any

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
from hero_rt.errors import UsageError

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
def outpaint(
    input: Annotated[Path, typer.Argument(help="A video file or a folder of images.")],
    output: Annotated[Path, typer.Argument(help="The video to write; without a suffix, a folder of PNGs.")],
    engines: Annotated[Path | None, typer.Option(help="Engine folder written by hero-export build-engines.")] = None,
    checkpoint: Annotated[str | None, typer.Option(help="Run the PyTorch model of this checkpoint instead.")] = None,
    pad: Annotated[str | None, typer.Option(help="Pixels to generate: top,right,bottom,left.")] = None,
    size: Annotated[str | None, typer.Option(help="Target size, WIDTHxHEIGHT.")] = None,
    anchor: Annotated[
        str, typer.Option(help="Where the source lies in --size: center, top, bottom-right, ...")
    ] = "center",
    task: Annotated[
        str | None,
        typer.Option(help="OPC (all four sides), OPV (left and right) or OPH (top and bottom), with --ratio."),
    ] = None,
    ratio: Annotated[float | None, typer.Option(help="Generated fraction of the target's extent, for --task.")] = None,
    steps: Annotated[int, typer.Option(help="Denoising steps.")] = 25,
    guidance_scale: Annotated[float, typer.Option(help="Classifier-free guidance; 1 is off.")] = 1.0,
    sampler: Annotated[
        str | None,
        typer.Option(help="ddim, euler, dpm++, unipc, ... or a diffusers scheduler class; default: the checkpoint's."),
    ] = None,
    eta: Annotated[
        float,
        typer.Option(min=0, max=1, help="Of ddim: 0 is deterministic, 1 draws new noise at each step as DDPM does."),
    ] = 0.0,
    seed: Annotated[int, typer.Option(help="The same seed gives the same video.")] = 0,
    mode: Annotated[
        str,
        typer.Option(help="joint (whole clip at once), stream (flat memory), auto (joint up to 64 frames)."),
    ] = "auto",
    feather: Annotated[int, typer.Option(help="Pixels over which the seam fades, on the generated side.")] = 8,
    flow: Annotated[str, typer.Option(help="Optical flow: dis, or raft where torchvision is installed.")] = "dis",
    max_frames: Annotated[int | None, typer.Option(help="Read only this many frames.")] = None,
    frame_rate: Annotated[str, typer.Option(help="Frame rate of a folder of images, a number or a fraction.")] = "8",
    audio: Annotated[bool, typer.Option(help="Copy the source's audio.")] = True,
    crf: Annotated[int, typer.Option(help="x264 quality of the written video; lower is better.")] = 17,
    device: Annotated[str | None, typer.Option(help="cpu, cuda or cuda:N; default: what the engines allow.")] = None,
    contact_sheet: Annotated[
        Path | None, typer.Option(help="Also write this PNG: input and output side by side.")
    ] = None,
) -> None:
    """Outpaint a video."""
    import numpy as np
    import torch

    from hero_rt.outpainter import MAX_JOINT_FRAMES, OVERLAP, Outpainter, choose_canvas
    from hero_rt.video import FirstFrames, create_video, open_video
    from hero_rt.video import contact_sheet as make_sheet
    from hero_rt.windows import count_stream_windows

    if (engines is None) == (checkpoint is None):
        raise UsageError("say what to run: exactly one of --engines and --checkpoint")
    if mode not in ("auto", "joint", "stream"):
        raise UsageError(f"mode {mode!r} is not one of auto, joint, stream")
    source = open_video(input, frame_rate=_fraction(frame_rate))
    if max_frames is not None:
        source = FirstFrames(source, max_frames)
    with source:
        canvas = choose_canvas(
            source.width,
            source.height,
            _integers(pad, ",", 4, "--pad"),
            _integers(size, "x", 2, "--size"),
            anchor,
            task,
            ratio,
        )
        length = f"{source.num_frames or 'unknown number of'} frames at {source.frame_rate} fps"
        console.print(f"{input}: {canvas.describe()}, {length}", soft_wrap=True)
        if engines is not None:
            outpainter = Outpainter.from_engines(engines, device)
        else:
            outpainter = Outpainter.from_pretrained(str(checkpoint), device=device or "cpu")
        outpainter.engines.open("unet_step", outpainter.profile(canvas, guidance_scale))  # fails early, if at all
        outpainter.set_progress_bar_config(disable=True)
        joint = mode == "joint" or (mode == "auto" and (source.num_frames or MAX_JOINT_FRAMES + 1) <= MAX_JOINT_FRAMES)
        if joint:
            windows: int | None = 1
        else:
            windows = source.num_frames and count_stream_windows(
                source.num_frames, outpainter.config.num_frames, OVERLAP
            )

        with (
            create_video(
                output,
                canvas.width,
                canvas.height,
                source.frame_rate,
                input if audio and source.has_audio else None,
                crf=crf,
                pixel_aspect=source.pixel_aspect,
            ) as writer,
            _progress() as progress,
        ):
            bar = progress.add_task("denoise", total=windows * steps if windows else None)

            def on_step(_outpainter, _step, _timestep, kwargs):
                progress.advance(bar)
                return kwargs

            arguments: dict[str, Any] = {
                "pad": (canvas.top, canvas.right, canvas.bottom, canvas.left),
                "num_inference_steps": steps,
                "guidance_scale": guidance_scale,
                "sampler": sampler,
                "eta": eta,
                "generator": torch.Generator().manual_seed(seed),
                "feather": feather,
                "flow_method": flow,
                "callback_on_step_end": on_step,
            }
            shown: np.ndarray | None = None
            chunks = (
                [outpainter(source, mode="joint", **arguments).frames]
                if joint
                else outpainter.stream(source, **arguments)
            )
            for frames in chunks:
                writer.write(frames)
                shown = frames if shown is None else shown
        outpainter.close()
    if contact_sheet is not None and shown is not None:
        make_sheet(shown, canvas).save(contact_sheet)
    console.print(f"wrote {output}: {writer.num_frames} frames of {canvas.width}x{canvas.height}", soft_wrap=True)


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


def _integers(text: str | None, separator: str, count: int, option: str):
    if text is None:
        return None
    parts = text.split(separator)
    try:
        values = tuple(int(part) for part in parts)
    except ValueError:
        values = ()
    if len(values) != count:
        shape = separator.join("NNNN"[:count])
        raise UsageError(f"{option} {text!r} is not {count} whole numbers, {shape}")
    return values


def _fraction(text: str) -> Fraction:
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
