"""docs/quality.md: the table and the targets, from the results that one command wrote."""

from typing import Any

from benchmarks.quality.targets import verdicts

COLUMNS = {
    "psnr": "PSNR",
    "mse": "MSE",
    "ssim": "SSIM",
    "gradient_energy": "gradient energy",
    "adjacent_ssim": "adjacent SSIM",
}
OPTIONAL = {"lpips": "LPIPS", "aafs": "AAFS"}


def quality_page(results: dict[str, Any], command: str) -> str:
    """Markdown. `results` as `evaluate` returns them."""
    settings = results["settings"]
    columns = COLUMNS | {name: title for name, title in OPTIONAL.items() if name in results["rows"][0]}
    lines = [
        "# Quality",
        "",
        f"{settings['model']}, {settings['steps']} DDIM steps, {settings['frames']} frames at {settings['size']} x "
        f"{settings['size']}, the left and right sides hidden; every figure is of the hidden region alone.",
        f"Made by `{command}`; do not edit.",
        "",
        "| target, against the best baseline of each clip | seen | met |",
        "|---|---|---|",
        *(f"| {v.target} | {v.seen} | {'yes' if v.met else 'no'} |" for v in verdicts(results["rows"])),
        "",
        "Gradient energy is the truth's = 1. Adjacent SSIM is between successive frames; the truth's own in brackets.",
        "",
        *(f"- No {name.upper()}: {reason.rstrip('.')}." for name, reason in results["missing"].items()),
        "",
        f"| clip | ratio | method | {' | '.join(columns.values())} |",
        f"|---|---|---|{'---|' * len(columns)}",
    ]
    for row in results["rows"]:
        figures = [
            f"{row['psnr']:.2f}",
            f"{row['mse']:.0f}",
            f"{row['ssim']:.3f}",
            f"{row['gradient_energy']:.2f}",
            f"{row['adjacent_ssim']:.3f} ({row['adjacent_ssim_truth']:.3f})",
        ]
        figures += [f"{row[name]:.3f}" for name in OPTIONAL if name in columns]
        lines.append(f"| {row['clip']} | {row['ratio']:g} | {row['method']} | {' | '.join(figures)} |")
    return "\n".join(lines) + "\n"
