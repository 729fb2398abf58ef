"""Cost and memory against the number of frames: streaming, whose cost is a window's, and joint, which grows."""

from collections.abc import Iterator
from functools import partial
from operator import attrgetter
from statistics import median

from benchmarks.clip import pan_for
from benchmarks.clip_run import outpaint_pan, request_for
from benchmarks.contenders import BASELINE, contender_names
from benchmarks.contenders.uncached import step_io, without
from benchmarks.context import Context
from benchmarks.fresh_process import ClipJob, ClipOutcome, Ends, run_in_fresh_process
from benchmarks.measure import Contender, compare_frames, measure
from benchmarks.roofline import bytes_of, clip_work
from benchmarks.schema import Case, Verification
from benchmarks.suites.end_to_end import opens
from benchmarks.timing import OwnClock
from hero_export.verify import THRESHOLDS
from hero_rt.engines.engine import EngineSet
from hero_rt.plan import resolve
from hero_rt.request import Mode, OutpaintRequest
from hero_rt.spec.profile import Profile

STEPS = 4
REPEATS = 3
LONGEST_REPEATED = 256  # frames: a longer clip is run once, and is many windows
LONGEST_JOINT = (
    4 * OutpaintRequest.model_fields["max_joint_frames"].default
)  # past what `auto` would choose, to show the growth


def run(context: Context) -> Iterator[Case]:
    """The first size without guidance: both scale every window alike."""
    settings = context.settings
    profile = Profile(*settings.sizes[0], settings.config.num_frames)
    sets = context.open(contender_names(settings, compiled=False))
    here = {name: engines for name, engines in sets.items() if opens(context, name, engines, profile)}
    for num_frames in settings.frames:
        yield measure_length(context, profile, "stream", num_frames, here)
    for num_frames in settings.frames:
        if num_frames <= LONGEST_JOINT:
            yield measure_length(context, profile, "joint", num_frames, here)
    for engines in sets.values():
        engines.close()


class Runs:
    """A contender's runs, each in a fresh process whose first window is not timed.

    The run that is verified is the first of the timed ones too: in a new process nothing is warmer than in another.
    """

    def __init__(self, job: ClipJob):
        self._job = job
        self._verified: ClipOutcome | None = None
        self._timed: list[ClipOutcome] = []

    def __call__(self) -> ClipOutcome:
        """The verified run again where it was not timed yet, else a new one."""
        if self._verified is None:
            self._verified = run_in_fresh_process(self._job)
            return self._verified
        self._timed.append(run_in_fresh_process(self._job) if self._timed else self._verified)
        return self._timed[-1]

    def figures(self, prepared_bytes: float) -> dict[str, float]:
        """Of the timed runs; the windows that are held at once follow from their shapes."""
        return {
            "seconds_per_frame": median(run.total for run in self._timed) / self._job.num_frames,
            "first_window_s": median(run.first_window for run in self._timed),
            "prepared_bytes": prepared_bytes,
            "peak_bytes": max(run.peak_bytes for run in self._timed),
        }


def measure_length(context: Context, profile: Profile, mode: Mode, num_frames: int, sets: dict[str, EngineSet]) -> Case:
    """One clip of `num_frames` a contender; the first frames and the last window are compared with the truth's."""
    settings = context.settings
    want = Ends()
    for chunk in outpaint_pan(context.truth, profile, num_frames, STEPS, mode):
        want.add(chunk)
    held = bytes_of(without(step_io(context.model, profile)[0], "sample", "timestep"))
    clip, frame = pan_for(profile, num_frames)
    plan = resolve(request_for(frame, profile, STEPS, mode), clip, context.truth)
    windows = (plan.num_windows or 0) if mode == "stream" else len(plan.joint_windows(num_frames))
    prepared = held * (1 if mode == "stream" else windows)

    def check(got: ClipOutcome) -> Verification:
        return compare_frames(got.frames, want.frames(), THRESHOLDS[settings.dtype].psnr, context.truth_name)

    def contender(name: str, engines: EngineSet) -> Contender:
        folder = context.folder(engines, profile)
        runs = Runs(ClipJob(settings, name, folder, profile, num_frames, STEPS, mode, warm=True))
        return Contender(runs, check, partial(runs.figures, prepared))

    return measure(
        context,
        f"{settings.preset} {profile} {settings.dtype} {STEPS} steps {mode} {num_frames} frames",
        {name: contender(name, engines) for name, engines in sets.items()},
        baseline=BASELINE,
        clock=OwnClock(attrgetter("total")),
        warmup=0,
        repeats=REPEATS if num_frames <= LONGEST_REPEATED else 1,
        work=clip_work(settings.preset, settings.dtype, profile, STEPS) * windows,
    )
