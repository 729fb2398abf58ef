"""What a run writes: one JSON file, validated on reading. Times are seconds, sizes bytes, rates FLOP/s and bytes/s."""

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ValidationError

from hero_rt.atomic import write_atomically
from hero_rt.errors import UsageError


class _Strict(BaseModel, extra="forbid"):
    """Refuses what it does not know."""


class Environment(_Strict):
    """The machine and the software as they were read when the run started."""

    date: str
    commit: str
    dirty: bool | None  # the code differed from the commit; None where nothing here can tell
    processor: str
    cores: int
    threads: int
    memory_bytes: int
    load_average: float  # of the minute before the run: above 0 something else was running
    system: str
    python: str
    versions: dict[str, str]
    gpu: str | None = None
    sm: str | None = None
    cuda: str | None = None
    driver: str | None = None
    clocks: dict[str, str]  # as the GPU's tool, or the processor, gives them: right after the ceilings' load

    @property
    def machine(self) -> str:
        return self.gpu or self.processor

    @property
    def code(self) -> str:
        """Ten digits of the commit, and whether the code was the commit's."""
        changes = {True: ", with changes", False: "", None: ", unknown whether with changes"}
        return (self.commit[:10] or "unknown") + changes[self.dirty]


class Ceilings(_Strict):
    """The best that this machine was seen to reach in this run, before its suites and after each."""

    dtype: str
    flops_per_s: float
    matmul_size: int
    bytes_per_s: float  # read and written
    copy_bytes: int


class Work(_Strict):
    """The floating-point operations that must be done and the fewest bytes that must cross the memory bus."""

    flops: int
    bytes: int

    def limit(self, ceilings: Ceilings) -> float:
        """No implementation is faster on this machine, seconds."""
        return max(self.flops / ceilings.flops_per_s, self.bytes / ceilings.bytes_per_s)


class Verification(_Strict):
    """One output against the truth: ‖out - truth‖ / ‖truth‖ and the limit that it was held to."""

    against: str
    relative_l2: float
    limit: float
    psnr_db: float | None = None
    passed: bool


class Timing(_Strict):
    """Median and quartiles of interleaved repeats, each the mean of `calls` in a row; one repeat has no spread."""

    warmup: int
    repeats: int
    calls: int = 1
    median: float
    lower_quartile: float
    upper_quartile: float
    samples: list[float]

    @property
    def iqr(self) -> float | None:
        return self.upper_quartile - self.lower_quartile if self.repeats > 1 else None


class Measurement(_Strict):
    """One contender. `timing` is None where it did not match; figures are in SI units, named with them."""

    name: str
    verification: Verification
    timing: Timing | None
    ratio: float | None = None  # the baseline's median over this one's: above 1 is faster
    share_of_limit: float | None = None  # the limit over the median: 1 is as fast as the machine can
    figures: dict[str, float] = {}


class Case(_Strict):
    """Contenders that did the same work, taking turns."""

    name: str
    baseline: str
    work: Work | None = None
    limit: float | None = None
    measurements: list[Measurement]

    def find(self, name: str) -> Measurement | None:
        return next((m for m in self.measurements if m.name == name), None)

    def timed(self) -> list[tuple[Measurement, Timing]]:
        return [(m, m.timing) for m in self.measurements if m.timing is not None]

    def under(self, ceilings: Ceilings) -> "Case":
        """With the limit that these ceilings set for its work, and each time's share of it."""
        limit = self.work.limit(ceilings) if self.work else None
        for m in self.measurements:
            m.share_of_limit = limit / m.timing.median if limit and m.timing else None
        return self.model_copy(update={"limit": limit})


class Unavailable(_Strict):
    """A contender that cannot run here, and why."""

    name: str
    reason: str


class OperatorTime(_Strict):
    """One row of a profile."""

    operator: str
    calls: int
    seconds: float
    share: float


class SuiteResult(_Strict):
    """`finished` is False where the run was cut, or failed, after these cases."""

    suite: str
    finished: bool = True
    seconds: float = 0.0
    cases: list[Case] = []
    unavailable: list[Unavailable] = []
    operators: dict[str, list[OperatorTime]] = {}  # by contender
    clocks_after: dict[str, str] = {}

    @property
    def mismatches(self) -> list[str]:
        return [f"{self.suite} {c.name} {m.name}" for c in self.cases for m in c.measurements if m.timing is None]


class Run(_Strict):
    """The whole file."""

    schema_version: Literal[1] = 1
    environment: Environment
    settings: dict[str, Any]
    ceilings: Ceilings
    suites: list[SuiteResult]

    def raise_ceilings(self, again: Ceilings) -> None:
        """Take the higher rates of both, for every case of the run."""
        rates = {key: max(getattr(self.ceilings, key), getattr(again, key)) for key in ("flops_per_s", "bytes_per_s")}
        self.ceilings = self.ceilings.model_copy(update=rates)
        for suite in self.suites:
            suite.cases = [case.under(self.ceilings) for case in suite.cases]

    def find(self, suite: str) -> SuiteResult | None:
        """None also where the run was cut before the suite's first case."""
        return next((s for s in self.suites if s.suite == suite and s.cases), None)


def write_run(path: Path, run: Run) -> None:
    """Atomically, so that a run that is cut off leaves the suites that it finished."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, f"{run.model_dump_json(indent=1)}\n".encode())


def read_run(path: Path) -> Run:
    """Raises UsageError naming the file and the first field that is off."""
    if not path.is_file():
        raise UsageError(f"{path} does not exist; write one: python -m benchmarks run unet-step --json {path}")
    try:
        return Run.model_validate_json(path.read_text())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "file"
        raise UsageError(f"{path} is not the result of a benchmark run ({where}: {first['msg']})") from error


def milliseconds(seconds: float) -> str:
    """Three significant digits, more where the whole part has more."""
    value = seconds * 1e3
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
