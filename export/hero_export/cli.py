"""The hero-export command."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from hero_rt.cli_errors import run_app
from hero_rt.errors import ParityError, UsageError
from hero_rt.spec.profile import Profile, parse_profile

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Export HERO checkpoints to ONNX and build engine folders for hero-rt.",
)
console = Console(stderr=True)

CheckpointArgument = Annotated[
    str,
    typer.Argument(help="Checkpoint folder, hero-tiny or a Hub id, or 'random' for seeded random weights of --preset."),
]
PresetOption = Annotated[
    str | None,
    typer.Option(help="Sizes of random weights: hero-sd15 or hero-tiny. Only with CHECKPOINT 'random'."),
]
SeedOption = Annotated[int, typer.Option(help="Seed of random weights.")]
AOTI, TENSORRT = "AOTInductor", "TensorRT and TensorRT-RTX"  # panels of build-engines --help
DtypeOption = Annotated[str, typer.Option(help="fp32 or fp16 (softmax, norm statistics and time embedding stay FP32).")]


@app.command(epilog="Example: [bold]hero-export onnx random onnx --preset hero-tiny --width 256 --height 144[/bold]")
def onnx(
    checkpoint: CheckpointArgument,
    out: Annotated[Path, typer.Argument(help="Folder for the .onnx files and their weights.")],
    preset: PresetOption = None,
    seed: SeedOption = 0,
    height: Annotated[int, typer.Option(help="Canvas height in pixels, a multiple of 8.")] = 256,
    width: Annotated[int, typer.Option(help="Canvas width in pixels, a multiple of 8.")] = 256,
    frames: Annotated[int, typer.Option(help="Frames of a window.")] = 16,
    guidance: Annotated[bool, typer.Option(help="Export the denoising step with classifier-free guidance.")] = False,
    dtype: DtypeOption = "fp32",
    submodule: Annotated[list[str] | None, typer.Option(help="Export only these; repeatable.")] = None,
) -> None:
    """Write the six submodules as ONNX files with external weights, checked by onnx.checker."""
    from hero_export.checkpoint import Checkpoint
    from hero_export.onnx import export_onnx
    from hero_rt.spec.boundary import SUBMODULES

    profile = Profile(width, height, frames, guidance)
    source = Checkpoint(checkpoint, preset, seed)
    names = submodule or list(SUBMODULES)
    torch_dtype = _dtype(dtype)
    if unknown := [name for name in names if name not in SUBMODULES]:
        raise UsageError(f"unknown submodule {unknown[0]!r}; known: {', '.join(SUBMODULES)}")
    table = Table("submodule", "nodes", "hero nodes", "graph", "weights", "seconds", title=f"{out} {profile} {dtype}")
    with _progress() as progress:
        task = progress.add_task("export", total=len(names))
        for name in names:
            progress.update(task, description=f"export {name}")
            # a model a submodule: its parts are freed before the next one's are made
            done = export_onnx(source.load(torch_dtype), name, profile, out / f"{name}.onnx")
            table.add_row(
                name,
                str(done.nodes),
                str(done.hero_nodes),
                _mib(done.graph_bytes),
                _mib(done.weights_bytes),
                f"{done.seconds:.1f}",
            )
            progress.advance(task)
    console.print(table)


@app.command(
    "build-engines",
    epilog="Example: [bold]hero-export build-engines hero --profile 256x256x16-cfg --dtype fp16 --out engines[/bold]",
)
def build_engines(
    checkpoint: CheckpointArgument,
    out: Annotated[Path, typer.Option(help="Engine folder to create or extend.")],
    profile: Annotated[
        list[str], typer.Option(help="Shapes, WxHxFRAMES[-cfg], or dynamic, MIN..OPT..MAXxFRAMES[-cfg]; repeatable.")
    ],
    preset: PresetOption = None,
    seed: SeedOption = 0,
    format: Annotated[str, typer.Option(help="onnxruntime, tensorrt, tensorrt-rtx or aoti.")] = "onnxruntime",
    dtype: Annotated[str | None, typer.Option(help="fp32 or fp16; default: fp16 for the two TensorRTs.")] = None,
    json: Annotated[
        Path | None, typer.Option(help="Also write this report: machine, versions, figures of each build.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Engines built at once, each with memory of its own.")] = 1,
    device: Annotated[
        str | None, typer.Option(help="cpu or cuda; default: the GPU, if any.", rich_help_panel=AOTI)
    ] = None,
    max_autotune: Annotated[
        bool, typer.Option(help="Benchmark kernel variants while compiling.", rich_help_panel=AOTI)
    ] = False,
    pool_limit: Annotated[
        str, typer.Option(help="Scratch for tactics: workspace:SIZE with K, M or G.", rich_help_panel=TENSORRT)
    ] = "workspace:8G",
    builder_optimization_level: Annotated[
        int | None, typer.Option(help="0 to 5; default: the library's.", rich_help_panel=TENSORRT)
    ] = None,
    timing_cache: Annotated[
        str | None, typer.Option(help="File of measured tactics, read and written.", rich_help_panel=TENSORRT)
    ] = None,
    hardware_compatibility_level: Annotated[
        str, typer.Option(help="none, ampere_plus or same_compute_capability.", rich_help_panel=TENSORRT)
    ] = "none",
    version_compatible: Annotated[
        bool, typer.Option(help="Plans run on later library versions too.", rich_help_panel=TENSORRT)
    ] = False,
    strip_plan: Annotated[
        bool,
        typer.Option(help="Weights stay in one file, out of the plans.", rich_help_panel=TENSORRT),
    ] = False,
    refittable: Annotated[bool, typer.Option(help="Weights can be replaced.", rich_help_panel=TENSORRT)] = False,
    compute_capability: Annotated[
        str | None,
        typer.Option(help="Targets, sm_89,sm_120 (TensorRT-RTX). Default: this GPU's.", rich_help_panel=TENSORRT),
    ] = None,
    plugin: Annotated[
        str, typer.Option(help="Temporal attention: auto, python, library or off.", rich_help_panel=TENSORRT)
    ] = "auto",
) -> None:
    """Build an engine folder with a manifest. Finished engines are kept: an interrupted build goes on where it was."""
    from hero_export.build import build_engines as build
    from hero_export.build import build_report, engine_tasks
    from hero_export.checkpoint import Checkpoint
    from hero_export.formats import BuildSettings, FinishedEngine
    from hero_export.plan_options import PlanOptions
    from hero_rt.engines.backend import FORMATS

    if format not in FORMATS:
        raise UsageError(f"engine format {format!r} is not one of {', '.join(FORMATS)}")
    plan = PlanOptions(
        pool_limit,
        builder_optimization_level,
        timing_cache,
        hardware_compatibility_level,
        version_compatible,
        strip_plan,
        refittable,
        tuple(compute_capability.split(",")) if compute_capability else (),
        plugin,
    )
    if plan != PlanOptions() and not format.startswith("tensorrt"):
        raise UsageError(f"{plan.arguments}: for the formats tensorrt and tensorrt-rtx, not for {format}")
    if (device or max_autotune) and format != "aoti":
        raise UsageError(f"--device and --max-autotune are for format aoti, not for {format}")
    dtype = dtype or ("fp16" if format.startswith("tensorrt") else "fp32")
    _dtype(dtype)
    settings = BuildSettings(Checkpoint(checkpoint, preset, seed), format, dtype, device, max_autotune, plan)
    profiles = [parse_profile(text) for text in profile]
    table = Table("engine", "nodes", "size", "seconds", "peak memory", title=f"{out} ({format}, {dtype})")
    with _progress() as progress:
        task = progress.add_task(f"build {out}", total=len(engine_tasks(profiles)))
        phases: dict[str, TaskID] = {}

        def on_phase(phase: str, done: int, total: int) -> None:
            if phase not in phases:
                phases[phase] = progress.add_task(phase)
            progress.update(phases[phase], completed=done, total=total, visible=done < total)

        def report(done: FinishedEngine, reused: bool) -> None:
            engine = done.engine
            size = sum(record.bytes for record in done.files.values())
            seconds = "kept" if reused else f"{engine.build_seconds:.1f}"
            table.add_row(
                f"{engine.submodule} {engine.profile}",
                str(engine.contents["nodes"]),
                _mib(size),
                seconds,
                _mib(engine.peak_memory_bytes),
            )
            progress.advance(task)

        manifest = build(settings, out, profiles, report, jobs, on_phase)
    console.print(table)
    if json is not None:
        json.parent.mkdir(parents=True, exist_ok=True)
        json.write_text(build_report(manifest))


@app.command(epilog="Example: [bold]hero-export verify engines --clip clip.mp4 --json parity.json[/bold]")
def verify(
    folder: Annotated[Path, typer.Argument(help="Engine folder.")],
    clip: Annotated[Path | None, typer.Option(help="A real clip to verify on; default: a synthetic pan.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda or cuda:N; default: what the engines allow.")] = None,
    eager: Annotated[
        str | None, typer.Option(help="Judge the PyTorch model in fp32 or fp16 in place of the engines.")
    ] = None,
    reference_device: Annotated[
        str | None,
        typer.Option(help="Where the FP32 model runs; default: the engines' device (cpu where its memory is short)."),
    ] = None,
    json: Annotated[Path | None, typer.Option(help="Also write every figure to this file.")] = None,
) -> None:
    """Compare every engine with the FP32 model it was built from, on a clip; exit code 3 where one differs too much."""
    from hero_export.verify import THRESHOLDS, OutputParity
    from hero_export.verify import verify as run

    if eager is not None:
        _dtype(eager)
    with console.status(f"verify {folder}"):
        report = run(folder, clip, device, eager, reference_device)
    limits = THRESHOLDS[report.judged_as]
    table = Table(
        "engine", "worst output", "relative L2", "max abs", "cosine", "", title=f"{folder} against FP32 eager"
    )
    by_engine: dict[str, list[OutputParity]] = {}
    for row in report.outputs:
        by_engine.setdefault(f"{row.submodule} {row.profile}", []).append(row)
    for engine, rows in by_engine.items():
        worst = max(rows, key=lambda row: row.relative_l2)
        figures = (f"{worst.relative_l2:.1e}", f"{worst.max_abs:.1e}", f"{worst.cosine:.7f}")
        table.add_row(engine, worst.output, *figures, _verdict(all(row.passed for row in rows)))
    console.print(table)
    for run_row in report.clips:
        errors = f"latents {run_row.latents_relative_l2:.1e}, frames {run_row.psnr_db:.1f} dB"
        line = f"{run_row.profile}, {run_row.steps} steps on {report.clip}: {errors}  {_verdict(run_row.passed)}"
        console.print(line, soft_wrap=True)
    if json is not None:
        json.write_text(report.model_dump_json(indent=2) + "\n")
    if not report.passed:
        raise ParityError(
            f"{f'eager {eager}' if eager else folder} differs from FP32 eager by more than "
            f"{limits.per_output:.0e} an output, "
            f"{limits.latents:.0e} in the latents or {limits.psnr:.0f} dB"
        )


@app.command(epilog="Example: [bold]hero-export inspect engines --layers unet_step[/bold]")
def inspect(
    folder: Annotated[Path, typer.Argument(help="Engine folder.")],
    layers: Annotated[
        str | None, typer.Option(help="Also list every layer of this submodule's engines (polygraphy).")
    ] = None,
    json: Annotated[Path | None, typer.Option(help="Also write it to this file.")] = None,
) -> None:
    """Show what is inside each engine: layers, weights by type, memory, what computes attention."""
    from hero_export.inspect import inspect_folder, layer_listing

    found = inspect_folder(folder)
    target = found.target
    console.print(
        f"{found.folder}: {found.model}, {found.format} {target.library_version}, {found.dtype}, for "
        f"{', '.join(target.compute_capabilities) or 'any device'}; all files intact",
        f"from {found.checkpoint}; runs here: {found.runs_here}",
        sep="\n",
        soft_wrap=True,
    )
    table = Table("engine", "size", "weights", "activations", "most frequent layers", "attention by")
    for engine in found.engines:
        frequent = sorted(engine.layers.items(), key=lambda item: -item[1])[:5]
        weights = ", ".join(f"{_mib(size)} {name}" for name, size in engine.weights_by_type.items())
        table.add_row(
            engine.engine,
            _mib(engine.file_bytes),
            weights or _mib(engine.weights_bytes),
            "" if engine.activation_bytes is None else _mib(engine.activation_bytes),
            ", ".join(f"{count} {name}" for name, count in frequent),
            ", ".join(engine.attention),
        )
    console.print(table)
    if layers is not None:
        console.print(layer_listing(folder, layers), soft_wrap=True, markup=False, highlight=False)
    if json is not None:
        json.write_text(found.model_dump_json(indent=2) + "\n")


@app.command(epilog="Example: [bold]hero-export doctor --json doctor.json[/bold]")
def doctor(json: Annotated[Path | None, typer.Option(help="Also write it to this file.")] = None) -> None:
    """Show what is installed, which engine formats can be built and run here, and how to add what is missing."""
    from hero_export.doctor import diagnose

    found = diagnose()
    console.print(
        f"Python {found.python}, {found.system}; CUDA {found.cuda or 'none'}, driver {found.driver or 'none'}"
    )
    console.print(f"GPUs: {', '.join(found.gpus) or 'none'}")
    console.print(", ".join(f"{name} {version}" for name, version in found.packages.items() if version))
    table = Table("format", "runs on", "builds", "missing")
    for status in found.formats:
        table.add_row(
            status.format, ", ".join(status.runs_on) or "-", "yes" if status.builds else "no", status.missing or ""
        )
    console.print(table)
    if json is not None:
        json.write_text(found.model_dump_json(indent=2) + "\n")


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
def compose(
    stable_diffusion: Annotated[
        str, typer.Argument(help="SD 1.5 or its inpainting variant: a folder, one .safetensors file or a Hub id.")
    ],
    motion_adapter: Annotated[str, typer.Option(help="AnimateDiff v1, v2 or v3: MotionAdapter or original names.")],
    ip_adapter: Annotated[str, typer.Option(help="IP-Adapter for SD 1.5 (ViT-H, 4 tokens), .safetensors.")],
    image_encoder: Annotated[str, typer.Option(help="OpenAI CLIP ViT-L/14.")],
    image_encoder_2: Annotated[str, typer.Option(help="OpenCLIP ViT-H/14, IP-Adapter's image encoder.")],
    out: Annotated[Path, typer.Option(help="Folder of the checkpoint.")],
    flow_encoder: Annotated[
        str, typer.Option(help="It starts 'random', as in the paper, or from the 'unet' as a ControlNet does.")
    ] = "random",
    preset: Annotated[str, typer.Option(help="The networks' sizes.")] = "hero-sd15",
    seed: Annotated[int, typer.Option(help="Of what is random: the flow encoder.")] = 0,
    json_out: Annotated[Path | None, typer.Option("--json", help="What became of each tensor, as JSON.")] = None,
) -> None:
    """Assemble a HERO checkpoint from public ones, as the paper initialises it before training.

    Names are local paths, or owner/repo[/path] on the Hub (HF_HUB_OFFLINE is honoured).
    """
    from hero_export.compose import Sources
    from hero_export.compose import compose as assemble
    from hero_rt.spec.config import HeroConfig

    where = Sources(stable_diffusion, motion_adapter, ip_adapter, image_encoder, image_encoder_2, flow_encoder)
    report = assemble(HeroConfig.from_preset(preset), where, seed, out)
    table = Table("part", "copied", "zero", "random", title=str(out))
    for part in dict.fromkeys(name.split("/")[0] for name in report.made):
        origins = [origin for name, (origin, _) in report.made.items() if name.startswith(f"{part}/")]
        table.add_row(part, *(str(origins.count(origin)) for origin in ("copied", "zero", "random")))
    console.print(table)
    for why in dict.fromkeys(report.unused.values()):
        console.print(f"not read: {list(report.unused.values()).count(why)} tensors ({why})")
    if json_out is not None:
        json_out.write_text(json.dumps(report.to_dict(), indent=2) + "\n")
    console.print("its weights are where training starts: train it with hero-train outpainter")


def _dtype(name: str):
    from hero_rt.engines.manifest import DTYPES

    if name not in DTYPES:
        raise UsageError(f"dtype {name!r} is not one of {', '.join(DTYPES)}")
    return DTYPES[name]


def _progress() -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )


def _mib(size: int) -> str:
    return f"{size / 2**20:.1f} MiB"


def main() -> None:
    run_app(app)
