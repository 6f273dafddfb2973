"""Tasks of your own around jobs, as one Celery canvas.

chain: a picture → its colour → the next picture · chord: many pictures → one contact sheet
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterable
from typing import Any

from celery import chain, chord, shared_task
from celery.result import AsyncResult
from PIL import Image

from workers import generate

# Each signature says it: the worker that sends the next step of a canvas is not ours, and knows no routes.
QUEUE = "studio"
EDGE = 160  # pixels of a picture on the contact sheet

Result = dict[str, Any]  # of a job: `job_id`, `artifacts` and more, as in the README


@shared_task(name="studio.in_its_colour")
def in_its_colour(result: Result, subject: str) -> dict[str, str]:
    """Parameters for the next job: another subject, in the mean colour of the picture before."""
    with Image.open(result["artifacts"][0]["path"]) as picture:
        red, green, blue = picture.convert("RGB").resize((1, 1)).getpixel((0, 0))
    return {"text_prompt": f"{subject} in the colour #{red:02x}{green:02x}{blue:02x}"}


@shared_task(name="studio.contact_sheet")
def contact_sheet(results: list[Result], path: str) -> str:
    """All pictures on one sheet. Safe to run twice, as Celery may: the sheet is whole, or not there."""
    kept = [artifact["path"] for result in results for artifact in result["artifacts"]]
    columns = math.ceil(math.sqrt(len(kept)))
    sheet = Image.new("RGB", (columns * EDGE, math.ceil(len(kept) / columns) * EDGE), "white")
    for place, each in enumerate(kept):
        with Image.open(each) as picture:
            picture.thumbnail((EDGE, EDGE))
            sheet.paste(picture, (place % columns * EDGE, place // columns * EDGE))
    sheet.save(f"{path}.part", "PNG")
    os.replace(f"{path}.part", path)
    return path


def two_of_a_kind(provider: str, first: str, second: str) -> AsyncResult:
    """The result of the second job. A mapping that comes before a job is merged below its own parameters."""
    return chain(
        generate.s(provider, {"text_prompt": first}),
        in_its_colour.s(second).set(queue=QUEUE),
        generate.s(provider, {"aspect_ratio": "1:1"}),
    ).delay()


def sheet_of(provider: str, prompts: Iterable[str], path: str) -> AsyncResult:
    """The path of the sheet, once every picture is there."""
    jobs = [generate.s(provider, {"text_prompt": prompt}) for prompt in prompts]
    return chord(jobs)(contact_sheet.s(os.path.abspath(path)).set(queue=QUEUE))


if __name__ == "__main__":
    colours = two_of_a_kind("useapi_frames", "a lighthouse in fog", "a fox")
    sheet = sheet_of("useapi_frames", (f"a harbour of paper boats, {n}" for n in range(7)), sys.argv[1])
    result = colours.get(timeout=300)
    print(result["job_id"], result["artifacts"][0]["path"])
    print(sheet.get(timeout=300))
