"""Build engines, then share them between threads: `python examples/engines_for_threads.py in.mp4 out/`.

Engines are built for sizes, so the source's frame decides which. A second run finds them built.
"""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from hero_export.build import build_engines
from hero_export.checkpoint import Checkpoint
from hero_export.engine_build import BuildSettings
from hero_rt import Outpainter, OutpaintRequest
from hero_rt.spec.profile import Profile
from hero_rt.video import open_video

source, folder = sys.argv[1], Path(sys.argv[2])
request = OutpaintRequest.from_keywords(pad=(0, 24, 0, 24), steps=4, max_frames=16)


def main() -> None:
    with open_video(source) as clip:
        canvas = request.frame.canvas(clip.width, clip.height)
    profile = Profile(canvas.model_width, canvas.model_height, frames=16)
    build_engines(BuildSettings.of(Checkpoint("hero-tiny"), "onnxruntime"), folder / "engines", [profile])
    with Outpainter.from_engines(folder / "engines") as outpainter:
        outpainter.warm_up(canvas)

        def serve(seed: int) -> Path:
            return outpainter(source, request, seed=seed).save(folder / f"seed{seed}.mp4")

        with ThreadPoolExecutor(2) as threads:
            for path in threads.map(serve, range(2)):
                print(f"wrote {path}")


if __name__ == "__main__":  # engines are built in processes of their own, which import this file
    main()
