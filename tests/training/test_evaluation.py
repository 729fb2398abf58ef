"""The quality figures against closed forms and formulas written out, and the targets on rows made by hand."""

import cv2
import numpy as np
import pytest
import torch
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from hero_rt.errors import UsageError
from hero_rt.models import HeroConfig, HeroModel
from hero_rt.spec.canvas import Canvas
from hero_rt.stages.flow import optical_flow
from hero_rt.stages.place import pixel_mask
from hero_rt.stages.prepare import clip_pixels
from hero_train.ablations.alphas import learned_alphas, plot_alphas
from hero_train.evaluation.evaluate import centre_crop, edge, pan, reflection, telea
from hero_train.evaluation.measures import gradient_energy, load_aafs, measure
from hero_train.evaluation.pages import quality_page
from hero_train.evaluation.targets import verdicts
from tests.clips import BIG_BUCK_BUNNY, CARPHONE, small_clip

CANVAS = Canvas(48, 64, 0, 16, 0, 16)
TRUTH = small_clip(4, 80, 64)


def test_mse_and_psnr_are_of_the_hidden_region_alone():
    frames = TRUTH.copy().astype(int)
    frames[:, :, :16] += np.where(frames[:, :, :16] < 128, 10, -10)  # half of what is hidden
    frames[:, :, 16:64] = 0  # known: the composite would never differ there
    quality = measure(frames.astype(np.uint8), TRUTH, CANVAS)
    assert quality["mse"] == pytest.approx(50)
    assert quality["psnr"] == pytest.approx(10 * np.log10(255**2 / 50))


def test_perfect_frames():
    quality = measure(TRUTH, TRUTH, CANVAS)
    assert quality["mse"] == 0
    assert quality["psnr"] == float("inf")
    assert quality["ssim"] == pytest.approx(1, abs=1e-5)
    assert quality["gradient_energy"] == 1
    assert quality["adjacent_ssim"] == quality["adjacent_ssim_truth"] < 1
    assert quality["flicker"] == 1


def test_flicker_is_the_change_between_frames_over_the_truths_in_the_hidden_region():
    texture = np.random.default_rng(0).integers(0, 100, (1, 64, 80, 3))
    ramp = texture + np.arange(100, 108, 2)[:, None, None, None]  # 2 levels a frame
    frames = (ramp + 5 * (np.arange(4) % 2)[:, None, None, None]).astype(np.uint8)  # changes of 7, -3, 7
    frames = frames.copy()
    frames[1::2, :, 16:64] = 0  # known
    assert measure(frames, ramp.astype(np.uint8), CANVAS)["flicker"] == pytest.approx((7 + 3 + 7) / 3 / 2)


def test_ssim_is_wangs_formula_with_a_gaussian_window():
    noisy = np.clip(TRUTH + np.random.default_rng(0).normal(0, 20, TRUTH.shape), 0, 255).astype(np.uint8)

    def blur(x: np.ndarray) -> np.ndarray:
        return np.stack([cv2.GaussianBlur(frame, (11, 11), 1.5, borderType=cv2.BORDER_REFLECT_101) for frame in x])

    a, b = noisy.astype(np.float64), TRUTH.astype(np.float64)
    mean_a, mean_b = blur(a), blur(b)
    var_a, var_b, cov = blur(a * a) - mean_a**2, blur(b * b) - mean_b**2, blur(a * b) - mean_a * mean_b
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    ssim = (2 * mean_a * mean_b + c1) * (2 * cov + c2) / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
    hidden = np.ones((64, 80), bool)
    hidden[:, 16:64] = False
    assert measure(noisy, TRUTH, CANVAS)["ssim"] == pytest.approx(ssim[:, hidden].mean(), abs=2e-3)


def test_gradient_energy_of_a_ramp_and_of_nothing():
    """2 grey levels a pixel in x and 1 in y: 4 + 1."""
    y, x = np.mgrid[:64, :80]
    ramp = np.repeat((2 * x + y)[None, :, :, None], 3, axis=3).astype(np.uint8)
    region = pixel_mask(CANVAS)[0].bool()
    assert gradient_energy(ramp, region) == pytest.approx(5)
    # a step at the seam belongs to the known side, not to what was generated
    step = np.zeros((1, 64, 80, 3), np.uint8)
    step[:, :, 16:64] = 200
    assert gradient_energy(step, region) == 0


def test_baselines_keep_the_source_and_fill_the_rest():
    source = np.ascontiguousarray(TRUTH[:, :, 16:64])
    filled = {
        method: fill(source, CANVAS) for method, fill in (("edge", edge), ("mirror", reflection), ("telea", telea))
    }
    for frames in filled.values():
        assert frames.shape == TRUTH.shape
        assert np.array_equal(frames[:, :, 16:64], source)
    assert np.array_equal(filled["edge"][:, :, 0], source[:, :, 0])
    assert np.array_equal(filled["mirror"][:, :, 15 - 3], source[:, :, 3])
    assert filled["telea"][:, :, :16].min() > 0  # black is what the hidden pixels hold before


def test_pans_move_by_their_speed_over_one_picture():
    clip = pan(BIG_BUCK_BUNNY, 3.0, 5, 128)
    assert clip.shape == (5, 128, 128, 3)
    flow = np.median(optical_flow(clip), axis=(0, 2, 3))
    assert flow == pytest.approx([-3, 0], abs=0.1)
    assert np.abs(clip[1, :, :-3].astype(int) - clip[0, :, 3:]).mean() < 1


def test_crops_are_the_videos_own_pixels_or_refused():
    clip = centre_crop(CARPHONE, 3, 144)
    assert clip.shape == (3, 144, 144, 3)
    assert np.array_equal(clip[:, 40:104, 32:112], small_clip(3, 80, 64))  # its height: not scaled
    half = centre_crop(CARPHONE, 3, 72)
    means = clip.reshape(3, 72, 2, 72, 2, 3).mean((2, 4))
    assert np.abs(half - means).max() <= 1
    with pytest.raises(UsageError, match="176x144; evaluation needs 200 px"):
        centre_crop(CARPHONE, 3, 200)
    with pytest.raises(UsageError, match="has 120 frames; evaluation needs 121"):
        centre_crop(CARPHONE, 121, 128)


def rows(
    hero: float = 15.0,
    energy: float = 1.0,
    pan_energy: float | None = None,
    adjacent: float = 0.8,
    pan_hero: float = 16.0,
    spread: float = 0.0,
) -> list[dict]:
    """Two seeds, `spread` dB above and below; pans of the clips' energy where none of their own is said."""
    made = []
    for clip, is_pan, psnr in (("a", False, hero), ("p", True, pan_hero)):
        for method, seed, value in (
            ("edge", None, 14.0),
            ("telea", None, 15.0),
            ("HERO", 0, psnr + spread),
            ("HERO", 1, psnr - spread),
        ):
            texture = energy if pan_energy is None or not is_pan else pan_energy
            figures = {"psnr": value, "mse": 1.0, "ssim": 0.5, "gradient_energy": texture}
            figures |= {"adjacent_ssim": adjacent, "adjacent_ssim_truth": 0.8}
            made.append({"clip": clip, "pan": is_pan, "ratio": 0.25, "method": method, "seed": seed} | figures)
    return made


@pytest.mark.parametrize(
    ("changed", "missed"),
    [
        pytest.param({}, [], id="all-met"),
        pytest.param({"hero": 13.9}, ["mean PSNR"], id="mean"),
        pytest.param({"hero": 11.9}, ["mean PSNR", "no clip"], id="worst"),
        pytest.param({"pan_hero": 15.9}, ["pans"], id="pans"),
        pytest.param({"energy": 0.4}, ["mean gradient", "mean gradient"], id="blur"),
        pytest.param({"energy": 0.4, "pan_energy": 1.0}, ["mean gradient"], id="blur-beside-textured-pans"),
        pytest.param({"energy": 1.6}, ["mean gradient", "mean gradient"], id="noise"),
        pytest.param({"adjacent": 0.9}, ["SSIM"], id="frozen"),
        pytest.param({"spread": 2.5}, [], id="seeds-average"),
        pytest.param({"spread": 3.5}, ["no clip"], id="worst-of-any-seed"),
    ],
)
def test_targets(changed, missed):
    found = [verdict.target for verdict in verdicts(rows(**changed)) if not verdict.met]
    assert [next(m for m in missed if target.startswith(m)) for target in found] == missed


def test_page_holds_every_row_and_verdict():
    settings = {"model": "m", "steps": 10, "frames": 16, "size": 128}
    results = {"settings": settings, "missing": {"fvd": "no weights"}, "rows": rows(hero=13.0, spread=0.5)}
    page = quality_page(results, "python -m benchmarks quality road.mp4")
    assert page.count("\n| a |") + page.count("\n| p |") == 6
    assert "| mean PSNR at most 1 dB below | -2.00 dB | no | -1.50 dB | -2.50 dB |" in page
    assert "| a | 0.25 | HERO | 13.00 |" in page
    assert "python -m benchmarks quality road.mp4" in page
    assert "- No FVD: no weights." in page


def test_adjacent_frame_similarity_is_the_cosine_of_clip_embeddings(tmp_path):
    torch.manual_seed(0)
    config = CLIPVisionConfig(**HeroConfig.from_preset("hero-tiny").clip)
    network = CLIPVisionModelWithProjection(config).eval()
    network.save_pretrained(tmp_path)
    aafs = load_aafs(str(tmp_path))
    still = np.repeat(TRUTH[:1], 3, axis=0)
    assert aafs(still, still) == pytest.approx(1, abs=1e-6)
    with torch.no_grad():
        pixels = clip_pixels(torch.from_numpy(TRUTH).permute(0, 3, 1, 2).float() / 127.5 - 1)
        embeds = network(pixels).image_embeds.double()
    embeds = embeds / embeds.norm(dim=1, keepdim=True)
    truth = float((embeds[1:] * embeds[:-1]).sum(1).mean())
    assert aafs(TRUTH, TRUTH) == pytest.approx(truth, abs=1e-6)
    assert truth < 1 - 1e-6


def test_a_network_that_cannot_be_had_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"AAFS needs .*nowhere"):
        load_aafs(str(tmp_path / "nowhere"))


def test_alphas_in_execution_order_and_their_plot(tmp_path):
    model = HeroModel.initial(HeroConfig.from_preset("hero-tiny"), seed=0)
    with torch.no_grad():
        model["unet"].down_blocks[0].motion_modules[0].im3_alpha.fill_(0.1)
        model["unet"].up_blocks[3].motion_modules[2].im3_alpha.fill_(0.3)
    found = learned_alphas(model)
    assert [len(found[network]) for network in ("unet", "refnet", "flow_encoder")] == [20, 19, 8]
    assert found["unet"][0] == ("down_blocks.0.motion_modules.0", pytest.approx(0.1))
    assert found["unet"][-1] == ("up_blocks.3.motion_modules.2", pytest.approx(0.3))
    plot_alphas(model, tmp_path / "alphas.png")
    assert cv2.imread(str(tmp_path / "alphas.png")).shape[1] == 960
