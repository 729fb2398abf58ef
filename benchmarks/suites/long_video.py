"""Cost and memory against the number of frames: streaming, whose cost is a window's, and joint, which grows."""

from collections.abc import Iterator
from functools import partial
from operator import attrgetter
from statistics import median

from benchmarks.clip import outpaint_pan, pan_for, request_for
from benchmarks.contenders.uncached import step_io, without
from benchmarks.context import Context
from benchmarks.fresh_process import ClipJob, ClipOutcome, Ends, run_in_fresh_process
from benchmarks.measure import Contender, check_ends, measure, verified_counts
from benchmarks.roofline import bytes_of
from benchmarks.schema import Case
from benchmarks.timing import Clock
from hero_rt.engines.engine import EngineSet
from hero_rt.plan import resolve
from hero_rt.request import Mode, OutpaintRequest
from hero_rt.spec.profile import Profile

STEPS = 4
REPEATS = 3
LONGEST_REPEATED = 256  # frames: a longer clip is run once, and is many windows
# past what `auto` would choose, to show the growth
LONGEST_JOINT = 4 * OutpaintRequest.model_fields["max_joint_frames"].default


def run(context: Context) -> Iterator[Case]:
    """The first size without guidance: both scale every window alike."""
    profile, lengths = context.settings.first_profile(), context.settings.frames
    with context.contenders() as sets:
        here = {name: engines for name, engines in sets.items() if context.opens(name, engines, profile)}
        for num_frames in lengths:
            yield measure_length(context, profile, "stream", num_frames, here)
        for num_frames in lengths:
            if num_frames <= LONGEST_JOINT:
                yield measure_length(context, profile, "joint", num_frames, here)


def measure_length(context: Context, profile: Profile, mode: Mode, num_frames: int, sets: dict[str, EngineSet]) -> Case:
    """One clip of `num_frames` a contender; the first frames and the last window are compared with the truth's."""
    want = Ends(outpaint_pan(context.truth, profile, num_frames, STEPS, mode))
    clip, frame = pan_for(profile, num_frames)
    plan = resolve(request_for(frame, profile, STEPS, mode), clip, context.truth)
    windows = (plan.num_windows or 0) if mode == "stream" else len(plan.joint_windows(num_frames))
    held = bytes_of(without(step_io(context.model, profile)[0], "sample", "timestep"))

    def contender(name: str, engines: EngineSet) -> Contender:
        folder = context.folder(engines, profile)
        job = ClipJob(context.settings, name, folder, profile, num_frames, STEPS, mode, warm=True)
        call = verified_counts(partial(run_in_fresh_process, job))  # it is as warm as the others
        return Contender(call, partial(check_ends, context, want), figures)

    def figures(timed: list[ClipOutcome]) -> dict[str, float]:
        return {
            "seconds_per_frame": median(run.total for run in timed) / num_frames,
            "first_window_s": median(run.first_window for run in timed),
            "prepared_bytes": held * (1 if mode == "stream" else windows),  # of the windows that are held at once
            "peak_bytes": max(run.peak_bytes for run in timed),
        }

    contenders = {name: contender(name, engines) for name, engines in sets.items()}
    case_name = context.case_name(profile, STEPS, "steps", mode, num_frames, "frames")
    clock = Clock(context.device, seconds=attrgetter("total"))
    rounds = 0, REPEATS if num_frames <= LONGEST_REPEATED else 1
    return measure(context, case_name, contenders, clock, rounds, context.clip_work(profile, STEPS, windows))
