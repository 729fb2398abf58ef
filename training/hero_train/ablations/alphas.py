"""Plots the learned IM3 blend of every motion module (the paper's Fig. 7)."""

from pathlib import Path

import matplotlib

from hero_rt.models.hero import HeroModel

matplotlib.use("Agg")
import matplotlib.pyplot as plt

NETWORKS = ("unet", "refnet", "flow_encoder")


def learned_alphas(model: HeroModel) -> dict[str, list[tuple[str, float]]]:
    """Return (block, alpha) of each motion module by network, in execution order: down, mid, up."""
    found = {}
    for network in NETWORKS:
        named = model[network].named_parameters()
        alphas = [(name.removesuffix(".im3_alpha"), float(p)) for name, p in named if name.endswith(".im3_alpha")]
        found[network] = sorted(alphas, key=lambda item: ("down", "mid", "up").index(item[0].split("_")[0]))
    return found


def plot_alphas(model: HeroModel, path: Path) -> None:
    """Draw a panel per network and a bar per motion module. At 1/3 a frame and its neighbours weigh the same."""
    figure, axes = plt.subplots(len(NETWORKS), 1, figsize=(8, 6), sharex=True, sharey=True, layout="constrained")
    for axis, (network, alphas) in zip(axes, learned_alphas(model).items(), strict=True):
        axis.bar(range(len(alphas)), [alpha for _, alpha in alphas], color="tab:blue")
        axis.axhline(0, color="black", linewidth=0.5)
        axis.set_title(network.replace("_", " "), loc="left", fontsize=9)
        axis.set_ylabel("alpha")
    axes[-1].set_xlabel("motion module, in execution order")
    figure.savefig(path, dpi=120)
    plt.close(figure)
