"""Defines a user's request as validated data. Every default of the project is here, once."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_serializer, model_validator

from hero_rt.errors import UsageError
from hero_rt.spec.canvas import Canvas

Anchor = Literal[
    "center", "left", "right", "top", "bottom", "top-left", "top-right", "bottom-left", "bottom-right"
]  # fmt: skip
TaskName = Literal["OPC", "OPV", "OPH"]
Mode = Literal["auto", "joint", "stream"]
FlowMethod = Literal["dis", "raft"]

MAX_SEED = 2**64 - 1
FRAME_KEYWORDS = ("pad", "size", "aspect", "anchor", "task", "ratio")
_KINDS = {  # keyword: the kind of frame, and the fields that the keyword gives
    "pad": ("padding", ("top", "right", "bottom", "left")),
    "size": ("size", ("width", "height")),
    "aspect": ("aspect", ("ratio",)),
    "task": ("task", ("task",)),
}

_Pixels = Annotated[int, Field(ge=0)]
_ANCHOR: Any = Field("center", description="Where the source lies in the target.")


def _keyword(path: list[str]) -> str:
    """Return the keyword that gives a field: "pad right" for frame.right of a padding."""
    for keyword, (kind, names) in _KINDS.items():
        if path[1:2] == [kind] and path[-1] in names:
            return keyword if len(names) == 1 else f"{keyword} {path[-1]}"
    return path[-1]


def _field_name(path: list[str]) -> str:
    kinds = {kind for kind, _ in _KINDS.values()}  # pydantic's tag of the union is no field
    return ".".join(part for i, part in enumerate(path) if i != 1 or part not in kinds)


class Data(BaseModel):
    """Frozen and strict: no unknown field, no float for an integer, no NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _with_plain_numbers(cls, fields: Any) -> Any:
        """Convert numpy's numbers to Python's. Strict validation takes no others."""
        if not isinstance(fields, dict):
            return fields
        return {name: value.item() if isinstance(value, np.generic) else value for name, value in fields.items()}

    @classmethod
    def parse(cls, fields: dict[str, Any], name: Callable[[list[str]], str] = _field_name) -> Self:
        """Validate `fields`. Raises UsageError: one line with the field, as `name` writes its path, and the value."""
        try:
            return cls.model_validate(fields)
        except ValidationError as error:
            raise UsageError(_one_line(error, cls, name)) from error


class _Frame(Data):
    """A frame to fill. Readers choose its class by `kind`, so the schema requires `kind` and every dump holds it."""

    model_config = ConfigDict(
        json_schema_extra=lambda schema: schema.update(required=["kind", *schema.get("required", [])])
    )
    kind: str

    @model_serializer(mode="wrap")
    def _with_kind(self, serialize: Any) -> dict[str, Any]:
        return {"kind": self.kind, **serialize(self)}


class Padding(_Frame):
    """Pixels to generate on each side of the source."""

    kind: Literal["padding"] = "padding"
    top: _Pixels = 0
    right: _Pixels = 0
    bottom: _Pixels = 0
    left: _Pixels = 0

    @classmethod
    def around(cls, canvas: Canvas) -> "Padding":
        """Return the padding of a canvas."""
        return cls(top=canvas.top, right=canvas.right, bottom=canvas.bottom, left=canvas.left)

    def canvas(self, width: int, height: int, pixel_aspect: Fraction = Fraction(1)) -> Canvas:
        return Canvas(width, height, self.top, self.right, self.bottom, self.left)


class TargetSize(_Frame):
    """A frame of this size around the source."""

    kind: Literal["size"] = "size"
    width: int = Field(ge=1)
    height: int = Field(ge=1)
    anchor: Anchor = _ANCHOR

    def canvas(self, width: int, height: int, pixel_aspect: Fraction = Fraction(1)) -> Canvas:
        return Canvas.from_size(width, height, self.width, self.height, self.anchor)


class AspectRatio(_Frame):
    """The smallest frame of this aspect ratio, as it is displayed, that holds the source."""

    kind: Literal["aspect"] = "aspect"
    ratio: str = Field(
        pattern=r"^\d{1,5}(\.\d{1,5})?:\d{1,5}(\.\d{1,5})?$", description="Width to height: 16:9, 2.39:1."
    )
    anchor: Anchor = _ANCHOR

    def canvas(self, width: int, height: int, pixel_aspect: Fraction = Fraction(1)) -> Canvas:
        across, down = map(Fraction, self.ratio.split(":"))
        if not across or not down:
            raise UsageError(f"aspect ratio {self.ratio} has a side of zero; write for instance 16:9")
        return Canvas.from_aspect(width, height, float(across / down / pixel_aspect), self.anchor)


class Task(_Frame):
    """A task of the paper, with the generated fraction of the target's extent."""

    kind: Literal["task"] = "task"
    task: TaskName = Field(description="OPC: all four sides; OPV: left and right; OPH: top and bottom.")
    ratio: float = Field(gt=0, lt=1)

    def canvas(self, width: int, height: int, pixel_aspect: Fraction = Fraction(1)) -> Canvas:
        return Canvas.from_task(width, height, self.task, self.ratio)


Frame = Annotated[Padding | TargetSize | AspectRatio | Task, Field(discriminator="kind")]


class OutpaintRequest(Data):
    """What to outpaint and how. It serialises to JSON and back.

    Sources, initial latents and callbacks are no part of it. They are arguments of the calls that take a request.
    """

    frame: Frame = Field(description="The frame to fill.")
    steps: int = Field(25, ge=1, le=1000, description="Denoising steps.")
    guidance_scale: float = Field(1.0, ge=0, description="Classifier-free guidance; 1 or less is off.")
    sampler: str | None = Field(
        None,
        description="ddim, euler, dpm++, unipc, lcm, ... or a diffusers scheduler class; default: the checkpoint's.",
    )
    eta: float = Field(
        0.0, ge=0, le=1, description="Of ddim: 0 is deterministic, 1 draws new noise at each step as DDPM does."
    )
    seed: int = Field(0, ge=0, le=MAX_SEED, description="The same seed gives the same video.")
    mode: Mode = Field(
        "auto", description="joint: the whole clip at once; stream: window by window in flat memory; auto: by length."
    )
    overlap: int = Field(
        4, ge=0, description="Frames that joint windows share, and finished frames that a stream window starts from."
    )
    max_joint_frames: int = Field(64, ge=1, description="The longest clip that mode auto denoises jointly.")
    max_frames: int | None = Field(None, ge=1, description="Read only this many frames.")
    feather: int = Field(8, ge=0, description="Pixels over which the seam fades, on the generated side; 0 is off.")
    flow: FlowMethod = Field("dis", description="Optical flow: dis needs nothing, raft needs torchvision.")

    @model_validator(mode="after")
    def _options_have_an_effect(self) -> Self:
        if "max_joint_frames" in self.model_fields_set and self.mode != "auto":
            raise ValueError(
                f"max_joint_frames has no effect in mode {self.mode}: it belongs to mode auto; leave it out"
            )
        return self

    @model_serializer(mode="wrap")
    def _without_options_that_have_no_effect(self, serialize: Any) -> dict[str, Any]:
        fields = serialize(self)
        return fields if self.mode == "auto" else {k: v for k, v in fields.items() if k != "max_joint_frames"}

    @property
    def guided(self) -> bool:
        """Whether classifier-free guidance is on."""
        return self.guidance_scale > 1

    @classmethod
    def from_keywords(cls, base: "OutpaintRequest | None" = None, **keywords: Any) -> "OutpaintRequest":
        """Build a request from the keywords of `Outpainter` and of the command line.

        Args:
            base: gives the fields that no keyword gives; None gives the defaults.
            keywords: exactly one of `pad` (top, right, bottom, left), `size` (width, height), `aspect` ("16:9") and
                `task` with `ratio`; `anchor` for size and aspect; other fields by name. None means not given.

        Raises:
            UsageError: a keyword is unknown, wrong or without effect. The message names it.
        """
        if base is not None:
            check_request(base)
        given = {name: value for name, value in keywords.items() if value is not None}
        words = {name: given.pop(name) for name in FRAME_KEYWORDS if name in given}
        fields: dict[str, Any] = {}
        if base is not None:
            fields = base.model_dump(exclude_unset=True)
            if given.get("mode", "auto") != "auto":  # another mode than the base's: what belongs to auto goes with it
                fields.pop("max_joint_frames", None)
        if words or base is None:
            fields["frame"] = _frame_fields(words)
        return cls.parse(fields | given, _keyword)

    @classmethod
    def from_call(cls, base: "OutpaintRequest | None", arguments: dict[str, Any]) -> "OutpaintRequest":
        """Build the request of a call of `Outpainter`, whose `arguments` are its local variables.

        diffusers' name `num_inference_steps` is `steps`. A `generator` gives the seed. Raises UsageError.
        """
        keywords = {name: arguments[name] for name in (*cls.model_fields, *FRAME_KEYWORDS) if name in arguments}
        keywords["steps"] = arguments["num_inference_steps"]
        generator = arguments["generator"]
        if generator is not None and keywords["seed"] is not None:
            raise UsageError("seed and generator are both given; a generator only gives the seed: leave one out")
        if generator is not None:
            if not hasattr(generator, "initial_seed"):
                raise UsageError(f"generator is {generator!r}; give a torch.Generator, or seed={generator!r}")
            keywords["seed"] = generator.initial_seed()
        return cls.from_keywords(base, **keywords)

    @classmethod
    def read(cls, path: str | Path) -> "OutpaintRequest":
        """Read a request from a JSON file. Raises UsageError, which names the file and the field."""
        try:
            return cls.model_validate_json(Path(path).read_bytes())
        except OSError as error:
            raise UsageError(f"request {path} cannot be read: {error.strerror or error}") from error
        except ValidationError as error:
            raise UsageError(f"request {path}: {_one_line(error, cls, _field_name)}") from error

    def save(self, path: str | Path) -> Path:
        """Write the request to a JSON file, which `read` and `--request` take. Raises UsageError."""
        try:
            Path(path).write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise UsageError(f"request {path} cannot be written: {error.strerror or error}") from error
        return Path(path)


class OutputOptions(Data):
    """How a result is written to a file."""

    crf: int = Field(17, ge=0, le=51, description="x264 quality of the written video; lower is better. PNG is exact.")
    audio: bool = Field(True, description="Copy the source's audio.")

    def check_format(self, path: str | Path) -> None:
        """Raise UsageError if an option that was given has no effect on `path`."""
        if is_image_folder(path) and self.model_fields_set:
            name = min(self.model_fields_set)
            raise UsageError(f"{name} has no effect on the PNG folder {path}: leave it out, or name a video (.mp4)")


def is_image_folder(path: str | Path) -> bool:
    """Return whether `path` names a folder of PNG files, not a video."""
    return not Path(path).suffix or str(path).endswith("/")


def check_request(request: object) -> None:
    """Raise UsageError for anything but a request."""
    if not isinstance(request, OutpaintRequest):
        seen = f"request is a {type(request).__name__}, not an OutpaintRequest"
        raise UsageError(f"{seen}; make one of a dict with OutpaintRequest.parse, of a file with OutpaintRequest.read")


def _frame_fields(words: dict[str, Any]) -> dict[str, Any]:
    given = [name for name in _KINDS if name in words]
    if len(given) != 1:
        seen = f"; {' and '.join(given)} are given" if given else ""
        raise UsageError(f"say what to fill with exactly one of pad, size, aspect and task (with ratio){seen}")
    keyword = given[0]
    for name, partners in (("anchor", ("size", "aspect")), ("ratio", ("task",))):
        if name in words and keyword not in partners:
            partner = " or ".join(partners)
            raise UsageError(f"{name} has no effect with {keyword}: it goes with {partner}; leave it out")
    values = words.pop(keyword)
    if keyword == "task" and "ratio" not in words:
        raise UsageError(f"task {values} needs a ratio: the generated fraction of the target, for instance 0.25")
    kind, names = _KINDS[keyword]
    if len(names) == 1:
        values = (values,)
    elif isinstance(values, str) or not isinstance(values, Sequence | np.ndarray) or len(values) != len(names):
        raise UsageError(f"{keyword} is {values!r}; it is ({', '.join(names)}) in pixels")
    return {"kind": kind, **dict(zip(names, values, strict=True)), **words}


def _one_line(error: ValidationError, model: type[Data], name: Callable[[list[str]], str]) -> str:
    """Return the first problem: the field as `name` writes it, the observed value, the expected value."""
    first = error.errors()[0]
    message = first["msg"].removeprefix("Value error, ")
    path = [str(part) for part in first["loc"]]
    if not path:
        return message
    if first["type"] in ("missing", "extra_forbidden"):
        known = f"; known: {', '.join(model.model_fields)}" if len(path) == 1 else ""
        return f"{name(path)} {'is missing' if first['type'] == 'missing' else 'is not a field'}{known}"
    return f"{name(path)} is {first['input']!r}: {message[0].lower()}{message[1:]}"
