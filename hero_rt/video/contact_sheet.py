"""Draws input and output of a run in one picture."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from hero_rt.spec.canvas import Canvas

_GREY = 96
_MAX_SIDE = 384  # pixels of a tile: a sheet is looked at whole
_MARGIN = 8
_LABEL = 22


def contact_sheet(result: np.ndarray, canvas: Canvas, columns: int = 6) -> Image.Image:
    """Draw two labelled rows of the same evenly spaced frames: the input on a grey canvas, and the output.

    result: uint8 [N, H, W, 3]. It contains the source's exact pixels, so the input is taken from it.
    """
    picked = np.linspace(0, len(result) - 1, min(columns, len(result))).round().astype(int)
    shrink = min(1.0, _MAX_SIDE / max(canvas.width, canvas.height))
    width, height = max(1, round(canvas.width * shrink)), max(1, round(canvas.height * shrink))
    size = _MARGIN + len(picked) * (width + _MARGIN), _MARGIN + 2 * (_LABEL + height + _MARGIN)
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(14)
    for row, text in enumerate((f"input: {canvas.describe()}", "output")):
        top = _MARGIN + row * (_LABEL + height + _MARGIN)
        draw.text((_MARGIN, top), text, fill="black", font=font)
        for column, index in enumerate(picked):
            tile = result[index]
            if row == 0:
                tile = np.full_like(tile, _GREY)
                tile[canvas.source] = result[index][canvas.source]
            image = Image.fromarray(tile)
            if shrink < 1:
                image = image.resize((width, height), Image.Resampling.LANCZOS)
            sheet.paste(image, (_MARGIN + column * (width + _MARGIN), top + _LABEL))
    return sheet
