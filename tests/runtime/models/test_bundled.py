"""The trained hero-tiny that comes with the package: small, found by its name, and better than a smear."""

import numpy as np
import pytest
import torch

from hero_export.checkpoint import Checkpoint
from hero_rt import Outpainter
from hero_rt.models.hero import BUNDLED, HeroModel
from hero_rt.spec.canvas import Canvas
from tests.clips import small_clip


def test_it_is_half_precision_safetensors_under_15_megabytes():
    files = [path for path in (BUNDLED / "hero-tiny").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 15e6
    assert {path.suffix for path in files} == {".json", ".safetensors", ".md"}
    model = HeroModel.from_pretrained("hero-tiny")
    assert model.config.name == "hero-tiny"
    alphas = [value for name, value in model["unet"].named_parameters() if name.endswith("im3_alpha")]
    assert max(float(alpha.abs().max()) for alpha in alphas) > 0  # untrained ones are zero


def test_a_folder_of_that_name_goes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hero-tiny").mkdir()
    (tmp_path / "hero-tiny" / "model_index.json").write_text('{"_class_name": "Other"}')
    with pytest.raises(Exception, match="'Other', not a HeroModel"):
        HeroModel.from_pretrained("hero-tiny")


def test_engines_of_it_are_known_by_its_files():
    digest = Checkpoint("hero-tiny").digest()
    assert digest == Checkpoint(str(BUNDLED / "hero-tiny")).digest()
    assert digest != Checkpoint("random", "hero-tiny").digest()


def test_it_continues_a_pan_that_a_smear_cannot(clip_that_pans):
    """A level pan of 3 px a frame: what one frame hides, another shows. Judged where it was hidden."""
    truth = clip_that_pans
    canvas = Canvas(96, 128, 0, 16, 0, 16)
    source = np.ascontiguousarray(canvas.source_of(truth))
    outpainter = Outpainter.from_pretrained("hero-tiny")
    outpainter.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(0)
    got = outpainter(source, pad=(0, 16, 0, 16), num_inference_steps=10, generator=generator).frames
    smear = np.pad(source, ((0, 0), (0, 0), (16, 16), (0, 0)), mode="edge")
    hidden = np.r_[:16, 112:128]

    def error(frames: np.ndarray) -> float:
        return float(np.square(frames[:, :, hidden].astype(float) - truth[:, :, hidden]).mean())

    assert np.array_equal(got[:, :, 16:112], source)
    assert error(got) < 0.8 * error(smear)


@pytest.fixture(scope="module")
def clip_that_pans() -> np.ndarray:
    """uint8 [16, 128, 128, 3] over a frame of a real video, repeated to both sides as mirrors."""
    frame = small_clip(1, 176, 144)[0]
    wide = np.concatenate([frame, frame[:, ::-1], frame], axis=1)
    return np.stack([wide[8:136, 100 + 3 * t : 228 + 3 * t] for t in range(16)])
