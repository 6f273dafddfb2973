"""Thumbnails: small WebP pictures of large ones. What came is a stranger's file, and may be broken.

Pillow is the extra `report`. Without it there are none, and `PILLOW` is False.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

try:
    from PIL import Image

    PILLOW = True
except ImportError:
    PILLOW = False

CURE = "pip install 'orchestrator[report]'"
EDGE = 208  # pixels, of the longer side
QUALITY = 60
MOST_PIXELS = 50_000_000  # of what is opened: some 200 MB of memory
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "AVIF")  # what artifacts are kept of

Thumbnail = bytes | str  # a WebP file, or why there is none


class Thumbnails:
    """Makes thumbnails, as many at once as there are cores: Pillow lets others work while it does."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self._pool = pool

    def of(self, paths: Iterable[str]) -> Iterator[Thumbnail]:
        """One for each path of a local file, in order. Nothing is raised for what cannot be read."""
        return self._pool.map(_thumbnail, paths)


@contextmanager
def thumbnails() -> Iterator[Thumbnails]:
    with ThreadPoolExecutor(os.cpu_count(), "thumbnail") as pool, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a file's oddities; its size is looked at below
        yield Thumbnails(pool)


def _thumbnail(path: str) -> Thumbnail:
    try:
        with Image.open(path, formats=FORMATS) as image:
            if image.width * image.height > MOST_PIXELS:
                return f"Too large for a thumbnail: {image.width} by {image.height} pixels."
            image.thumbnail((EDGE, EDGE))
            small = image.convert("RGBA" if image.has_transparency_data else "RGB")
            file = io.BytesIO()
            small.save(file, "WEBP", quality=QUALITY)
            return file.getvalue()
    except FileNotFoundError:
        return "The file is not there any more."
    except Image.DecompressionBombError:
        return "Too large for a thumbnail."
    except Exception:  # a decoder may raise anything at a broken file
        return "The file cannot be read as a picture."
