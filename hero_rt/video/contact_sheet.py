"""Input and output side by side in one picture, for looking at."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from hero_rt.canvas import Canvas

_GREY = 96
_MARGIN = 8
_LABEL = 22


def contact_sheet(source: np.ndarray, result: np.ndarray, canvas: Canvas, columns: int = 6) -> Image.Image:
    """Two labelled rows of the same evenly spaced frames: the input on its grey canvas, and the output.

    source: uint8 [N, h, w, 3]; result: uint8 [N, H, W, 3].
    """
    picked = np.linspace(0, len(result) - 1, min(columns, len(result))).round().astype(int)
    width, height = canvas.width, canvas.height
    sheet = Image.new(
        "RGB",
        (_MARGIN + len(picked) * (width + _MARGIN), _MARGIN + 2 * (_LABEL + height + _MARGIN)),
        "white",
    )
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(14)
    for row, (label, frames) in enumerate((("input", source), ("output", result))):
        top = _MARGIN + row * (_LABEL + height + _MARGIN)
        text = f"{label}: {canvas.describe()}" if row == 0 else label
        draw.text((_MARGIN, top), text, fill="black", font=font)
        for column, index in enumerate(picked):
            tile = np.full((height, width, 3), _GREY, np.uint8)
            if row == 0:
                tile[canvas.top : canvas.top + canvas.source_height, canvas.left : canvas.left + canvas.source_width] = (
                    frames[index]
                )
            else:
                tile = frames[index]
            sheet.paste(Image.fromarray(tile), (_MARGIN + column * (width + _MARGIN), top + _LABEL))
    return sheet
