"""Draw the picture in the README: `python docs/pictures/draw_result.py REPORT SURVEY IMAGE OUT.jpg`.

An example of reading a report, too: the tiles of one image, laid over the image.
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np

from crackmodel import open_report
from crackmodel.surveys.decoding import decode_image

_WIDTH = 1400
_RED = np.array([214, 40, 40], np.float32)


def main(report: str, survey: str, image: str, out: str) -> None:
    """Tint every tile that is over the threshold, and write its probability into it."""
    pixels = decode_image((Path(survey) / image).read_bytes())
    tiles = (
        open_report(report)
        .sql(f"select x0, y0, x1, y1, probability from tiles where crack and image = '{image}'")  # noqa: S608
        .to_pylist()
    )
    for tile in tiles:
        box = pixels[tile["y0"] : tile["y1"], tile["x0"] : tile["x1"]]
        box[...] = (0.72 * box + 0.28 * _RED).astype(np.uint8)
    scale = _WIDTH / pixels.shape[1]
    small = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    for tile in tiles:
        corner, opposite = (
            (round(scale * tile[x]), round(scale * tile[y])) for x, y in (("x0", "y0"), ("x1", "y1"))
        )
        cv2.rectangle(small, corner, opposite, _RED.tolist(), 2, cv2.LINE_AA)
        place = (corner[0] + 6, opposite[1] - 8)
        text = f"{tile['probability']:.2f}"
        cv2.putText(small, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.5, (60, 0, 0), 3, cv2.LINE_AA)
        cv2.putText(small, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 1, cv2.LINE_AA)
    cv2.imwrite(out, cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 82])


if __name__ == "__main__":
    main(*sys.argv[1:])
