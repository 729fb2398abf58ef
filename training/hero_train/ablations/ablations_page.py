"""docs/ablations.md: the paper's tables 4, 5 and 7 at the small scale, from the results that one command wrote."""

from typing import Any

TITLES = {
    4: "Table 4: the blend of neighbouring frames (IM³)",
    5: "Table 5: flow encoder and RefNet",
    7: "Table 7: image encoders",
}
WHOLE, AGAIN = "whole", "whole, another seed"


def ablations_page(results: dict[str, Any], command: str) -> str:
    """Markdown. results: {"settings": ..., "rows": as `run_variants` returns them}."""
    settings, rows = results["settings"], results["rows"]
    lines = [
        "# Ablations",
        "",
        f"The paper's ablations on {settings['model']}: every variant trained for {settings['training_steps']} steps "
        f"at {settings['size']} px from the same start, with the same windows and noise in the same order; then the "
        f"hidden region of held-out clips and pans at two ratios, {settings['steps']} DDIM steps.",
        f"Made by `{command}`; do not edit.",
        "",
        "Loss is Eq. 1 on the held-out clips' hidden region, at fixed timesteps and noise; lower is better, and it is "
        "the steadiest of the figures. `whole, another seed` is the whole model again: what differs less than that "
        "from `whole` is not told apart here. Gradient energy is the truth's = 1.",
        "",
    ]
    whole = next(row for row in rows if row["variant"] == WHOLE)
    spread = abs(next(row for row in rows if row["variant"] == AGAIN)["loss"] - whole["loss"])
    for table, title in TITLES.items():
        lines += [
            f"## {title}",
            "",
            "| variant | loss | against whole | PSNR | SSIM | gradient energy | adjacent SSIM |",
            "|---|---|---|---|---|---|---|",
        ]
        for row in (row for row in rows if table in row["tables"]):
            change = row["loss"] - whole["loss"]
            told = "" if row is whole else f"{change:+.4f}" + (" (within the spread)" if abs(change) <= spread else "")
            lines.append(
                f"| {row['variant']} | {row['loss']:.4f} | {told} | {row['psnr']:.2f} | {row['ssim']:.3f} "
                f"| {row['gradient_energy']:.2f} | {row['adjacent_ssim']:.3f} ({row['adjacent_ssim_truth']:.3f}) |"
            )
        lines.append("")
    return "\n".join(lines)
