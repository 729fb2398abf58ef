"""Defines the JSON file of a run. Times are in seconds, sizes in bytes, rates in FLOP/s and bytes/s."""

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ValidationError

from hero_rt.atomic import write_atomically
from hero_rt.errors import UsageError


class _Strict(BaseModel, extra="forbid"):
    """Refuses unknown fields."""


class Environment(_Strict):
    """Describes the machine and the software at the start of the run."""

    date: str
    commit: str
    dirty: bool | None  # whether the code differed from the commit; None: unknown
    processor: str
    cores: int
    threads: int
    memory_bytes: int
    load_average: float  # load average of the minute before the run; above 0: other work ran
    system: str
    python: str
    versions: dict[str, str]
    gpu: str | None = None
    sm: str | None = None
    cuda: str | None = None
    driver: str | None = None
    clocks: dict[str, str]  # read right after the load of the ceilings

    @property
    def machine(self) -> str:
        return self.gpu or self.processor

    @property
    def code(self) -> str:
        """Return ten digits of the commit, and whether the code had changes."""
        changes = {True: ", with changes", False: "", None: ", unknown whether with changes"}
        return (self.commit[:10] or "unknown") + changes[self.dirty]


class Ceilings(_Strict):
    """The best rates that the machine reached in this run."""

    dtype: str
    flops_per_s: float
    matmul_size: int
    bytes_per_s: float  # read and written
    copy_bytes: int


class Work(_Strict):
    """The necessary floating-point operations, and the fewest bytes that must cross the memory bus."""

    flops: int
    bytes: int

    def limit(self, ceilings: Ceilings) -> float:
        """Return the shortest possible time on this machine in seconds."""
        return max(self.flops / ceilings.flops_per_s, self.bytes / ceilings.bytes_per_s)


class Verification(_Strict):
    """The error of one output, ‖out - truth‖ / ‖truth‖, and its limit."""

    against: str
    relative_l2: float
    limit: float
    psnr_db: float | None = None
    passed: bool


class Timing(_Strict):
    """Median and quartiles of interleaved repeats. A repeat is the mean of `calls` calls."""

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
    """One contender. `timing` is None if it did not match. Names of figures end in their SI unit."""

    name: str
    verification: Verification
    timing: Timing | None
    ratio: float | None = None  # the baseline's median over this median: above 1 is faster
    share_of_limit: float | None = None  # the limit over the median: 1 is the limit itself
    figures: dict[str, float] = {}


class Case(_Strict):
    """Contenders that did the same work in turns."""

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
        """Return the case with the limit under `ceilings`, and the share of each time."""
        limit = self.work.limit(ceilings) if self.work else None
        for m in self.measurements:
            m.share_of_limit = limit / m.timing.median if limit and m.timing else None
        return self.model_copy(update={"limit": limit})


class Unavailable(_Strict):
    """A contender that cannot run here, and the reason."""

    name: str
    reason: str


class OperatorTime(_Strict):
    """One row of a profile."""

    operator: str
    calls: int
    seconds: float
    share: float


class SuiteResult(_Strict):
    """The cases of a suite. `finished` is False if the run ended early."""

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
    """The content of the file."""

    schema_version: Literal[1] = 1
    environment: Environment
    settings: dict[str, Any]
    ceilings: Ceilings
    suites: list[SuiteResult]

    def raise_ceilings(self, again: Ceilings) -> None:
        """Raise the ceilings to `seen` where these are higher, and update every case."""
        rates = {key: max(getattr(self.ceilings, key), getattr(again, key)) for key in ("flops_per_s", "bytes_per_s")}
        self.ceilings = self.ceilings.model_copy(update=rates)
        for suite in self.suites:
            suite.cases = [case.under(self.ceilings) for case in suite.cases]

    def find(self, suite: str) -> SuiteResult | None:
        """Return a suite's result, or None if the run has none."""
        return next((s for s in self.suites if s.suite == suite and s.cases), None)


def write_run(path: Path, run: Run) -> None:
    """Write the file atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, f"{run.model_dump_json(indent=1)}\n".encode())


def read_run(path: Path) -> Run:
    """Read and validate a file. Raises UsageError, which names the file and the first wrong field."""
    if not path.is_file():
        raise UsageError(f"{path} does not exist; write one: python -m benchmarks run unet-step --json {path}")
    try:
        return Run.model_validate_json(path.read_text())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "file"
        raise UsageError(f"{path} is not the result of a benchmark run ({where}: {first['msg']})") from error


def milliseconds(seconds: float) -> str:
    """Format milliseconds with three significant digits, or the whole part."""
    value = seconds * 1e3
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
