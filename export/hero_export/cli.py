"""The hero-export command."""

import re
import sys
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from pydantic import BaseModel, Field
from rich.console import Console
from rich.table import Column, Table

from hero_export.build_progress import BuildProgress
from hero_export.builders import BUILDERS, Builder, find_builder
from hero_export.checkpoint import Checkpoint
from hero_export.compose.options import ComposeOptions, Sources
from hero_export.thresholds import Thresholds
from hero_rt.cli_errors import run_app
from hero_rt.cli_options import parse_options, with_options
from hero_rt.errors import ParityError, UsageError, check_engine_folder
from hero_rt.spec.profile import SUBMODULES, parse_profile

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Export HERO checkpoints to ONNX and build engine folders for hero-rt.",
)
console = Console(stderr=True)


class WeightOptions(BaseModel):
    """Of what an export is made, beside the checkpoint's name."""

    preset: str | None = Field(None, description="Sizes of random weights. Only with CHECKPOINT 'random'.")
    seed: int = Field(0, description="Seed of random weights.")


CheckpointArgument = Annotated[
    str,
    typer.Argument(help="Checkpoint folder, hero-tiny or a Hub id, or 'random' for seeded random weights of --preset."),
]
ProfileOption = Annotated[
    list[str], typer.Option(help="Shapes, WxHxFRAMES[-cfg], or dynamic, MIN..OPT..MAXxFRAMES[-cfg]; repeatable.")
]
Dtype = Literal["fp32", "fp16"]
_PRECISION = "In fp16, softmax, norm statistics and time embedding stay FP32."
FolderArgument = Annotated[Path, typer.Argument(help="Engine folder.")]


@app.command(epilog="Example: [bold]hero-export onnx random --preset hero-tiny --profile 256x144x16 --out onnx[/bold]")
@with_options(WeightOptions)
def onnx(
    checkpoint: CheckpointArgument,
    out: Annotated[Path, typer.Option(help="Folder for the .onnx files and their weights.")],
    profile: ProfileOption,
    dtype: Annotated[Dtype, typer.Option(help=_PRECISION)] = "fp32",
    submodule: Annotated[list[str] | None, typer.Option(help="Export only these; repeatable.")] = None,
    **options: Any,
) -> None:
    """Write submodules as ONNX files for trtexec, polygraphy or any other tool, checked by onnx.checker.

    Files are named SUBMODULE.PROFILE.onnx; profiles of one model share their weight files. A range gets a file
    SUBMODULE.PROFILE.shapes too, with trtexec's options --minShapes, --optShapes and --maxShapes.
    """
    profiles = [parse_profile(text) for text in profile]
    source = Checkpoint(checkpoint, **parse_options(WeightOptions, options).model_dump())
    if unknown := [name for name in submodule or [] if name not in SUBMODULES]:
        raise UsageError(f"unknown submodule {unknown[0]!r}; known: {', '.join(SUBMODULES)}")

    from hero_export.build import engine_tasks
    from hero_export.onnx import export_onnx
    from hero_rt.engines.manifest import DTYPES

    tasks = [task for task in engine_tasks(profiles) if not submodule or task[0] in submodule]
    table = _table("graph", "nodes", "hero", "weights", "seconds", title=f"{out} {dtype}")
    with BuildProgress(console, "export", len(tasks)) as progress:
        for name, shape in tasks:
            # a model a submodule: its parts are freed before the next one's are made
            path = out / f"{name}.{shape}.onnx"
            progress.phase(f"{path.name}: export", 0, 1)
            done = export_onnx(source.load(DTYPES[dtype]), name, shape, path, checkpoint=source.label)
            counts = (str(done.nodes), str(done.hero_nodes), _mib(done.weights.stat().st_size), f"{done.seconds:.1f}")
            table.add_row(f"{name} {shape}", *counts)
            if done.ranges:
                path.with_suffix(".shapes").write_text(trtexec_shapes(done.ranges))
            progress.phase(f"{path.name}: export", 1, 1)
            progress.finished(path.name)
    console.print(table)


def trtexec_shapes(ranges: dict[str, list[tuple[int, ...]]]) -> str:
    """Return trtexec's three options for inputs that vary, a line each."""
    lines = []
    for index, which in enumerate(("min", "opt", "max")):
        shapes = (f"{name}:{'x'.join(map(str, shapes[index]))}" for name, shapes in ranges.items())
        lines.append(f"--{which}Shapes={','.join(shapes)}\n")
    return "".join(lines)


BUILDERS_OF_FORMATS = [find_builder(name) for name in BUILDERS]
BUILDER_OPTIONS = tuple(dict.fromkeys(builder.Options for builder in BUILDERS_OF_FORMATS))


@app.command(
    "build-engines",
    epilog="Example: [bold]hero-export build-engines hero --profile 256x256x16-cfg --dtype fp16 --out engines[/bold]",
)
@with_options(WeightOptions, *BUILDER_OPTIONS)
def build_engines(
    checkpoint: CheckpointArgument,
    out: Annotated[Path, typer.Option(help="Engine folder to create or extend.")],
    profile: ProfileOption,
    format: Annotated[str, typer.Option(help=f"{', '.join(BUILDERS)}.")] = "onnxruntime",
    dtype: Annotated[Dtype | None, typer.Option(help=_PRECISION)] = None,
    json: Annotated[
        Path | None, typer.Option(help="Also write this report: machine, versions, figures of each build.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Engines built at once, each with memory of its own.")] = 1,
    **options: Any,
) -> None:
    """Build an engine folder with a manifest. Finished engines are kept: an interrupted build goes on where it was.

    --dtype is fp16 for the two TensorRTs by default, fp32 else.
    """
    builder = find_builder(format)
    profiles = [parse_profile(text) for text in profile]
    for shape in profiles:
        builder.check_profile(shape)
    _refuse_other_formats(builder, options)
    asked = parse_options(builder.Options, options)
    source = Checkpoint(checkpoint, **parse_options(WeightOptions, options).model_dump())

    from hero_export.build import all_profiles, build_report, engine_tasks
    from hero_export.build import build_engines as build
    from hero_export.engine_build import BuildSettings, FinishedEngine

    settings = BuildSettings(source, builder, dtype or builder.default_dtype, asked).resolved()
    for line in builder.notes(settings.options):
        console.print(line, soft_wrap=True, highlight=False)
    table = _table("engine", "nodes", "size", "seconds", "memory", title=f"{out} ({format}, {settings.dtype})")
    with BuildProgress(console, f"build {out}", len(engine_tasks(all_profiles(out, profiles)))) as progress:

        def report(done: FinishedEngine, reused: bool) -> None:
            engine = done.engine
            size = sum(record.bytes for record in done.files.values())
            seconds = "kept" if reused else f"{engine.build_seconds:.1f}"
            name, nodes = f"{engine.submodule} {engine.profile}", str(engine.contents.get("nodes", ""))
            table.add_row(name, nodes, _mib(size), seconds, _mib(engine.peak_memory_bytes))
            progress.finished(f"{name}, {'kept' if reused else f'{seconds} s'}")

        try:
            manifest = build(settings, out, profiles, report, jobs, progress.phase)
        except KeyboardInterrupt:
            console.print("finished engines are kept; run the command again to go on")
            raise
    console.print(table)
    _write(json, build_report(manifest))


def _refuse_other_formats(builder: Builder, options: dict[str, Any]) -> None:
    """Raise UsageError for an option that was given and belongs to another format."""
    for model in BUILDER_OPTIONS:
        for name in model.model_fields:
            if options.get(name) is not None and name not in builder.Options.model_fields:
                formats = " and ".join(other.format for other in BUILDERS_OF_FORMATS if other.Options is model)
                raise UsageError(f"--{name.replace('_', '-')} is for {formats}, not for {builder.format}; leave it out")


@app.command(epilog="Example: [bold]hero-export verify engines --clip clip.mp4 --json parity.json[/bold]")
@with_options(Thresholds)
def verify(
    folder: FolderArgument,
    clip: Annotated[Path | None, typer.Option(help="A real clip to verify on; default: a synthetic pan.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda or cuda:N; default: what the engines allow.")] = None,
    eager: Annotated[
        Dtype | None, typer.Option(help="Judge the PyTorch model in this dtype in place of the engines.")
    ] = None,
    reference_device: Annotated[
        str | None,
        typer.Option(help="Where the FP32 model runs; default: the engines' device (cpu where its memory is short)."),
    ] = None,
    json: Annotated[Path | None, typer.Option(help="Also write every figure to this file.")] = None,
    **options: Any,
) -> None:
    """Compare every engine with the FP32 model it was built from, on a clip; exit code 3 where one differs too much."""
    check_engine_folder(folder)
    tolerances = parse_options(Thresholds, options).model_dump(exclude_unset=True)

    from hero_export.verify import verify as run

    with console.status(f"verify {folder}"):
        report = run(folder, clip, device, eager, reference_device, tolerances)
    limits = report.tolerances
    columns = ("engine", "worst output", "relative L2", "max abs", "cosine", "")
    table = _table(*columns, title=f"{folder} against FP32 eager")
    for engine, group in groupby(report.outputs, lambda row: f"{row.submodule} {row.profile}"):
        rows = list(group)
        worst = max(rows, key=lambda row: row.relative_l2)
        figures = (f"{worst.relative_l2:.1e}", f"{worst.max_abs:.1e}", f"{worst.cosine:.7f}")
        table.add_row(engine, worst.output, *figures, _verdict(all(row.passed for row in rows)))
    console.print(table)
    for row in report.clips:
        errors = f"latents {row.latents_relative_l2:.1e}, frames {row.psnr_db:.1f} dB  {_verdict(row.passed)}"
        console.print(f"{row.profile}, {row.steps} steps on {report.clip}: {errors}", soft_wrap=True)
    _write(json, report.model_dump_json(indent=2) + "\n")
    if not report.passed:
        raise ParityError(
            f"{f'eager {eager}' if eager else folder} differs from FP32 eager by more than "
            f"{limits['per_output']:.0e} an output, "
            f"{limits['latents']:.0e} in the latents or {limits['psnr']:.0f} dB"
        )


@app.command(epilog="Example: [bold]hero-export inspect engines --layers unet_step[/bold]")
def inspect(
    folder: FolderArgument,
    layers: Annotated[
        str | None,
        typer.Option(
            help="Also list every layer of this submodule's engines; of a plan without its GPU, by its builder."
        ),
    ] = None,
    json: Annotated[Path | None, typer.Option(help="Also write it to this file.")] = None,
) -> None:
    """Show what is inside each engine: layers, weights by type, memory, what computes attention.

    SOFTMAX and PLUGIN_V3 are layers of the network that TensorRT was given. Which kernel runs them is known on the GPU.
    """
    check_engine_folder(folder)

    from hero_export.inspect import inspect_folder, layer_listing

    found = inspect_folder(folder)
    target = found.target
    console.print(
        f"{found.folder}: {found.model}, {found.build.format} {target.library_version}, {found.build.dtype}, for "
        f"{', '.join(target.compute_capabilities) or 'any device'}; all files intact",
        f"from {found.build.checkpoint}; runs here: {found.runs_here}",
        sep="\n",
        soft_wrap=True,
    )
    if found.build.format == "onnxruntime":
        console.print("graphs hold ONNX Runtime's operators; for trtexec or others: hero-export onnx", soft_wrap=True)
    for plugin in {engine.build_flags.get("plugin") for engine in found.engines} - {None}:
        console.print(f"plugin of temporal attention: {plugin}")
    table = _table("engine", "size", "weights", "activations", "attention by")
    for engine in found.engines:
        by_type, activations = engine.contents.get("weights_by_type", {}), engine.contents.get("activation_bytes")
        weights = ", ".join(f"{_mib(size)} {name}" for name, size in by_type.items()) or _mib(engine.weights_bytes)
        sizes = _mib(engine.file_bytes), weights, "" if activations is None else _mib(activations)
        table.add_row(f"{engine.submodule} {engine.profile}", *sizes, "\n".join(engine.attention))
    console.print(table)
    if layers is not None:
        console.print(layer_listing(folder, layers), soft_wrap=True, markup=False, highlight=False)
    _write(json, found.model_dump_json(indent=2) + "\n")


@app.command(epilog="Example: [bold]hero-export doctor --json doctor.json[/bold]")
def doctor(json: Annotated[Path | None, typer.Option(help="Also write it to this file.")] = None) -> None:
    """Show what is installed, which engine formats can be built and run here, and how to add what is missing."""
    from hero_export.doctor import diagnose

    found = diagnose()
    console.print(
        f"Python {found.python}, {found.system}; CUDA {found.cuda or 'none'}, driver of CUDA {found.driver or 'none'}"
    )
    console.print(f"GPUs: {', '.join(found.gpus) or 'none'}")
    console.print(", ".join(f"{name} {version}" for name, version in found.packages.items() if version))
    table = Table("format", "runs on", "builds", "missing")
    for status in found.formats:
        builds = " for ".join(filter(None, ("yes" if status.builds else "no", ", ".join(status.targets))))
        table.add_row(status.format, ", ".join(status.runs_on) or "-", builds, status.missing or "")
    console.print(table)
    _write(json, found.model_dump_json(indent=2) + "\n")


def _table(first: str, *columns: str, title: str | None = None) -> Table:
    """Make a table that folds long names of its first column, and cuts none."""
    return Table(Column(first, overflow="fold"), *columns, title=title)


def _write(path: Path | None, text: str) -> None:
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def _verdict(passed: bool) -> str:
    return "ok" if passed else "[red]FAILED[/red]"


@app.command(
    epilog="""
Example:

[bold]hero-export compose stable-diffusion-v1-5/stable-diffusion-v1-5
--motion-adapter guoyww/animatediff-motion-adapter-v1-5-3
--ip-adapter h94/IP-Adapter/models/ip-adapter_sd15.safetensors --image-encoder openai/clip-vit-large-patch14
--image-encoder-2 h94/IP-Adapter/models/image_encoder --out hero-sd15-composed[/bold]
"""
)
@with_options(ComposeOptions)
def compose(
    stable_diffusion: Annotated[
        str, typer.Argument(help="SD 1.5 or its inpainting variant: a folder, one .safetensors file or a Hub id.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the checkpoint.")],
    preset: Annotated[str, typer.Option(help="The networks' sizes.")] = "hero-sd15",
    seed: Annotated[int, typer.Option(help="Of what is random: the flow encoder.")] = 0,
    json: Annotated[Path | None, typer.Option(help="What became of each tensor, as JSON.")] = None,
    **options: Any,
) -> None:
    """Assemble a HERO checkpoint from public ones, as the paper initialises it before training.

    Names are local paths, or owner/repo or owner/repo/path on the Hub (HF_HUB_OFFLINE is honoured).
    """
    from hero_export.compose.compose import compose as assemble
    from hero_rt.spec.config import HeroConfig

    where = Sources(stable_diffusion=stable_diffusion, **parse_options(ComposeOptions, options).model_dump())
    report = assemble(HeroConfig.from_preset(preset), where, seed, out)
    table = Table("part", "copied", "zero", "random", title=str(out))
    for part in dict.fromkeys(name.split("/")[0] for name in report.made):
        origins = [origin for name, (origin, _) in report.made.items() if name.startswith(f"{part}/")]
        table.add_row(part, *(str(origins.count(origin)) for origin in ("copied", "zero", "random")))
    console.print(table)
    for why in dict.fromkeys(report.unused.values()):
        console.print(f"not read: {list(report.unused.values()).count(why)} tensors ({why})")
    _write(json, report.model_dump_json(indent=2) + "\n")
    console.print("its weights are where training starts: train it with hero-train outpainter")


def _mib(size: int) -> str:
    return f"{size / 2**20:.1f} MiB"


def main() -> None:
    sys.argv[1:] = join_values(sys.argv[1:])
    run_app(app)


def join_values(arguments: list[str]) -> list[str]:
    """Join the values of `--compute-capabilities 8.9 12.0`, as polygraphy takes them, to one value."""
    joined: list[str] = []
    for word in arguments:
        follows = len(joined) > 1 and joined[-2] == "--compute-capabilities"
        if follows and re.fullmatch(r"(sm_)?[\d.]+", word):
            joined[-1] += f",{word}"
        else:
            joined.append(word)
    return joined
