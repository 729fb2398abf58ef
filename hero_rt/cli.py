"""The hero-rt command."""

import json
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import Field
from rich.console import Console
from rich.table import Column, Table

from hero_rt.cli_errors import run_app
from hero_rt.cli_options import parse_options, request_of, with_options
from hero_rt.cli_progress import SessionProgress
from hero_rt.errors import UsageError, check_engine_folder
from hero_rt.request import Data, OutpaintRequest, OutputOptions, is_image_folder
from hero_rt.video import contact_sheet, create_video, open_video

if TYPE_CHECKING:
    from hero_rt.outpainter import Outpainter


class RunOptions(Data):
    """What runs a request, and what is written beside the video."""

    engines: Path | None = Field(None, description="Engine folder written by hero-export build-engines.")
    checkpoint: str | None = Field(None, description="Run the PyTorch model of this checkpoint instead.")
    device: str | None = Field(None, description="cpu, cuda or cuda:N; default: what the engines allow.")
    frame_rate: str | None = Field(None, description="Of a folder of images: a number or a fraction. [8]")
    contact_sheet: Path | None = Field(None, description="Also write this PNG: input and output.")
    profile: Path | None = Field(None, description="Also write a Chrome trace of every engine run (JSON).")

    def check(self) -> None:
        """Refuse what can be refused before libraries are loaded. Raises UsageError, EngineError."""
        if (self.engines is None) == (self.checkpoint is None):
            raise UsageError("say what to run: exactly one of --engines and --checkpoint")
        if self.engines is not None:
            check_engine_folder(self.engines)

    def open(self) -> "Outpainter":
        """Open the engines, or load the model."""
        from hero_rt.outpainter import Outpainter

        if self.engines is not None:
            return Outpainter.from_engines(self.engines, self.device)
        return Outpainter.from_pretrained(str(self.checkpoint), device=self.device)


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
@with_options(RunOptions, OutpaintRequest, OutputOptions)
def outpaint(
    input: Annotated[Path, typer.Argument(help="A video file or a folder of images.")],
    output: Annotated[Path, typer.Argument(help="The video to write; without a suffix, a folder of PNGs.")],
    request: Annotated[Path | None, typer.Option(help="Read this request (JSON, see hero-rt schema) first.")] = None,
    **options: Any,
) -> None:
    """Outpaint a video."""
    asked = request_of(options, None if request is None else OutpaintRequest.read(request))
    run, written = parse_options(RunOptions, options), parse_options(OutputOptions, options)
    written.check_format(output)
    run.check()
    video = None if is_image_folder(output) else output
    for name, path in {"OUTPUT": video, "--contact-sheet": run.contact_sheet, "--profile": run.profile}.items():
        if path is not None and not path.absolute().parent.is_dir():
            raise UsageError(f"{name} {path} cannot be written: there is no folder {path.parent}; make it first")
    from hero_rt.session import OutpaintSession  # after the checks: PyTorch takes seconds to load

    with ExitStack() as held:
        source = held.enter_context(open_video(input, _fraction(run.frame_rate), asked.max_frames))
        outpainter = held.enter_context(run.open())
        if run.profile is not None:
            from hero_rt.engines.observers import ChromeTrace

            outpainter.engines.observers.append(held.enter_context(ChromeTrace(run.profile)))
        plan = outpainter.plan(source, asked)
        length = f"{source.num_frames or 'unknown number of'} frames at {source.frame_rate} fps"
        console.print(f"{input}: {plan.canvas.describe()}, {length}", soft_wrap=True)
        size = plan.canvas.width, plan.canvas.height
        writer = held.enter_context(
            create_video(output, *size, source.frame_rate, written, source.audio_file, source.pixel_aspect)
        )
        progress = held.enter_context(SessionProgress(console))
        shown: Any = None
        for frames in OutpaintSession(plan, outpainter.schedule, progress).run(source.frames()):
            writer.write(frames)
            shown = frames if shown is None else shown
    if run.contact_sheet is not None and shown is not None:
        contact_sheet(shown, plan.canvas).save(run.contact_sheet)
    console.print(f"wrote {output}: {writer.num_frames} frames of {size[0]}x{size[1]}", soft_wrap=True)


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
    built = f"{manifest.build.format} {target.library_version}, {manifest.build.dtype}"
    gpus = ", ".join(target.compute_capabilities) or "any device"
    out.print(f"{folder}: {manifest.config.name}, {built}, for {gpus}; all files intact")
    out.print(f"built by hero-runtime {manifest.tool_version} from {manifest.build.checkpoint}")
    table = Table(Column("engine", overflow="fold"), "MiB", "weights MiB", "build s", "peak MiB")
    for engine in manifest.engines:
        stored = sum(manifest.files[name].bytes for name in engine.weights)
        weights = stored or engine.contents.get("device_weights_bytes", 0)  # a plan holds its own
        sizes = (manifest.files[engine.file].bytes / 2**20, weights / 2**20)
        numbers = (*sizes, engine.build_seconds, engine.peak_memory_bytes / 2**20)
        table.add_row(f"{engine.submodule} {engine.profile}", *(f"{number:.1f}" for number in numbers))
    out.print(table)


def _fraction(text: str | None) -> Fraction | None:
    if text is None:
        return None
    try:
        return Fraction(text)
    except (ValueError, ZeroDivisionError) as error:
        raise UsageError(f"--frame-rate {text!r} is not a number or a fraction such as 30000/1001") from error


def main() -> None:
    run_app(app)
