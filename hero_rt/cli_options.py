"""Makes command-line options from pydantic models: a field becomes an option."""

import inspect
from collections.abc import Callable
from typing import Annotated, Any, TypeVar, get_args, get_origin

import typer
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from hero_rt.errors import UsageError
from hero_rt.request import FRAME_KEYWORDS, OutpaintRequest, TargetSize, Task

_Model = TypeVar("_Model", bound=BaseModel)
_FRAME_OPTIONS: dict[str, tuple[Any, str]] = {
    "pad": (str, "Pixels to generate: top,right,bottom,left."),
    "size": (str, "Target size, WIDTHxHEIGHT."),
    "aspect": (str, "Aspect ratio of the target, WIDTH:HEIGHT: 9:16, 16:9, 1:1, 4:3, 2.39:1."),
    "anchor": (TargetSize.model_fields["anchor"].annotation, "Where the source lies, for --size and --aspect."),
    "task": (Task.model_fields["task"].annotation, "OPC: all sides; OPV: left, right; OPH: top, bottom."),
    "ratio": (float, "Generated fraction of the target's extent, with --task."),
}


def with_options(*models: type[BaseModel]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add an option for each field of `models` to a typer command, which gets them as keyword arguments.

    An option that is not given is None: the model's default stands in the model alone, and `--help` shows it. A field
    without a default is a required option. A field of many values is a repeatable one. The field `frame` becomes the
    options pad, size, aspect, anchor, task and ratio. A model's `panel` heads its options in `--help`. `parse_options`
    makes the models.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = [p for p in inspect.signature(command).parameters.values() if p.kind is not p.VAR_KEYWORD]
        added = []
        for model in models:
            for name, field in model.model_fields.items():
                if name == "frame":
                    added += [_parameter(option, *_FRAME_OPTIONS[option], None) for option in FRAME_KEYWORDS]
                else:
                    added.append(_option(name, field, getattr(model, "panel", None)))
        command.__signature__ = inspect.Signature(own + added)  # type: ignore[attr-defined]
        command.__annotations__ = {p.name: p.annotation for p in own + added}
        return command

    return decorate


def _option(name: str, field: FieldInfo, panel: str | None) -> inspect.Parameter:
    least, most = (next((getattr(m, name) for m in field.metadata if hasattr(m, name)), None) for name in ("ge", "le"))
    span = "" if least is None else f" At least {least}." if most is None else f" {least} to {most}."
    text = f"{field.description or ''}{span}"
    return _parameter(name, field.annotation, text, ... if field.is_required() else field.default, panel)


def _parameter(name: str, kind: Any, text: str, default: Any, panel: str | None = None) -> inspect.Parameter:
    flag = "--" + name.replace("_", "-")
    flags = (f"{flag}/--no-{flag[2:]}",) if default is True else (flag,)
    if get_origin(kind) is tuple:
        kind = list[get_args(kind)[0]]  # type: ignore[misc]
    shown = False if default in (None, ..., (), False) else str(default).lower() if default is True else str(default)
    option = typer.Option(*flags, help=text, show_default=shown, rich_help_panel=panel)
    given, kind = (inspect.Parameter.empty, kind) if default is ... else (None, kind | None)
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=given, annotation=Annotated[kind, option])


def parse_options(model: type[_Model], options: dict[str, Any]) -> _Model:
    """Make a model of the `options` that were given. Raises UsageError naming the option and its value."""
    try:
        return model.model_validate(
            {name: options[name] for name in model.model_fields if options.get(name) is not None}
        )
    except ValidationError as error:
        first = error.errors()[0]
        message = first["msg"].removeprefix("Value error, ")
        if first["loc"]:
            typed = " ".join(map(str, first["input"])) if isinstance(first["input"], list) else first["input"]
            message = f"--{str(first['loc'][0]).replace('_', '-')} is {typed!r}: {message}"
        raise UsageError(message) from error


def request_of(options: dict[str, Any], base: OutpaintRequest | None) -> OutpaintRequest:
    """Make the request of a command with the options of `with_options`. They replace fields of `base`. UsageError."""
    names = (*FRAME_KEYWORDS, *OutpaintRequest.model_fields)
    keywords = {name: value for name, value in options.items() if name in names}
    for name, separator, count in (("pad", ",", 4), ("size", "x", 2)):
        if keywords.get(name) is not None:
            keywords[name] = _integers(f"--{name}", keywords[name], separator, count)
    return OutpaintRequest.from_keywords(base, **keywords)


def _integers(option: str, text: str, separator: str, count: int) -> tuple[int, ...]:
    try:
        values = tuple(int(part) for part in text.split(separator))
    except ValueError:
        values = ()
    if len(values) != count:
        raise UsageError(f"{option} {text!r} is not {count} whole numbers, {separator.join('NNNN'[:count])}")
    return values
