"""What callers may ask of Runway's text_to_image: per model, checked before anything is spent."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from marshmallow import Schema, ValidationError, fields, validate, validates_schema

from orchestrator.provider import Parameters

DEFAULT_MODEL = "gen4_image"
TAG_FAULT = "Must be 3 to 16 letters, digits or _ and begin with a letter."


@dataclass(frozen=True)
class Model:
    """What one model takes; the lists are words. Where nothing is said, nothing is checked."""

    ratios: str  # the first, 16:9 and small, stands in where a caller names none
    prompt_units: float = math.inf  # UTF-16 code units
    references: tuple[float, float] = (0, math.inf)  # least and most images
    takes: str = ""  # of the parameters that not every model has
    marks: str = "tag"  # what an image may say beside its uri
    counts: str = ""  # of outputCount
    any_size: bool = False  # `ratios` are only the recommended ones


# github.com/runwayml/sdk-python 5.24.0, types/text_to_image_create_params.py (read 2026-11; a test compares)
_GEN4 = """1280:720 720:1280 1024:1024 1080:1080 1168:880 1360:768 1440:1080 1080:1440 1808:768 1920:1080
    1080:1920 2112:912 720:720 960:720 720:960 1680:720"""
_GEMINI_1K = "1344:768 768:1344 1024:1024 1184:864 864:1184 1536:672 832:1248 1248:832 896:1152 1152:896"
_GEMINI_4K = f"""{_GEMINI_1K} 2048:2048 1696:2528 2528:1696 1792:2400 2400:1792 1856:2304 2304:1856 1536:2752
    2752:1536 3168:1344 4096:4096 3392:5056 5056:3392 3584:4800 4800:3584 3712:4608 4608:3712 3072:5504
    5504:3072 6336:2688"""
_FLASH = f"""{_GEMINI_4K} 512:512 416:624 624:416 432:592 592:432 448:576 576:448 384:672 672:384 768:336
    256:1024 1024:256 176:1408 1408:176 512:2048 2048:512 352:2816 2816:352 1024:4096 4096:1024 704:5632
    5632:704 2048:8192 8192:2048 1408:11264 11264:1408"""
_GPT = """1920:1088 2048:880 1920:1280 1920:1440 1920:1536 1920:1920 1536:1920 1440:1920 1280:1920 1088:1920
    2912:1248 2560:1440 2560:1712 2560:1920 2560:2048 2560:2560 2048:2560 1920:2560 1712:2560 1440:2560
    3840:1648 3840:2160 3504:2336 3264:2448 3200:2560 2880:2880 2560:3200 2448:3264 2336:3504 2160:3840
    auto"""
_PRO = """1376:768 768:1376 1024:1024 1184:896 896:1184 1296:864 864:1296 2048:2048 2304:1728 1728:2304
    2720:1530 1530:2720 2496:1664 1664:2496 auto_1k auto_2k"""
_LITE = """2848:1600 1600:2848 2048:2048 2304:1728 1728:2304 2496:1664 1664:2496 3136:1344 3072:3072 3456:2592
    2592:3456 4096:2304 2304:4096 3744:2496 2496:3744 4704:2016"""
_SEEDREAM = "outputCount outputFormat grounding"
MODELS: dict[str, Model] = {
    "gen4_image": Model(_GEN4, 1000, (0, 3), "seed contentModeration"),
    "gen4_image_turbo": Model(_GEN4, 1000, (1, 3), "seed contentModeration"),
    "gemini_2.5_flash": Model(_GEMINI_1K, references=(0, 3)),
    # 5500: the seed's preface, of April 2026
    "gemini_image3_pro": Model(_GEMINI_4K, 5500, (0, 14), "outputCount", "tag subject", "1 4"),
    "gemini_image3.1_flash": Model(_FLASH, math.inf, (0, 14), "outputCount", "tag subject", "1 4"),
    "gpt_image_2": Model(
        _GPT, 32_000, (0, 16), "outputCount quality background", "tag", "1 2 3 4 5 6 7 8 9 10"
    ),
    "seedream5_pro": Model(_PRO, 4000, takes=_SEEDREAM, marks=""),
    "seedream5_lite": Model(_LITE, 4000, takes=_SEEDREAM, marks="", any_size=True),
}
# Of the default model, the exact shapes with 720 pixels on the short side: 1080p costs more
# (github.com/runwayml/skills, of 2026-04).
RATIO_OF = {
    "16:9": "1280:720",
    "9:16": "720:1280",
    "1:1": "720:720",
    "4:3": "960:720",
    "3:4": "720:960",
    "21:9": "1680:720",
}
# Newer ones of the same file, sent as they are: they come faster than a table is kept, and a 400 is free.
UNCHECKED = """bria_fibo_1_5 bria_fibo_edit_1_5 gemini_image3.1_flash_lite gpt_image_2_5_flare
    gpt_image_2_5_sunburst grok_imagine_image_2 ideogram_4_0 ideogram_4_5 muse_image nano_banana_2.1
    recraft_v4_1_flash recraft_v4_1_vector seedream5_flash""".split()
SPECIAL = {word for model in MODELS.values() for word in model.takes.split()}


class ReferenceImage(Schema):
    """https://docs.dev.runwayml.com/assets/inputs"""

    uri = fields.String(
        required=True,
        validate=validate.Regexp(
            r"(https://|runway://).{1,2039}\Z|data:image/",
            error="Must be an https:// or runway:// URL of at most 2048 characters, or a data:image/… URI.",
        ),
    )
    tag = fields.String(validate=validate.Regexp(r"[A-Za-z]\w{2,15}\Z", re.ASCII, error=TAG_FAULT))
    subject = fields.String(validate=validate.OneOf(["human", "object"]))


class ContentModeration(Schema):
    publicFigureThreshold = fields.String(validate=validate.OneOf(["auto", "low"]))


class RunwayParameters(Parameters):
    """https://docs.dev.runwayml.com/api, text_to_image. What each model takes of it is checked, too."""

    model = fields.String(validate=validate.OneOf([*MODELS, *UNCHECKED]))
    promptText = fields.String(required=True, validate=validate.Length(1))
    ratio = fields.String(validate=validate.Length(1))
    referenceImages = fields.List(fields.Nested(ReferenceImage))
    seed = fields.Integer(strict=True)
    contentModeration = fields.Nested(ContentModeration)
    outputCount = fields.Integer(strict=True, validate=validate.Range(1))
    quality = fields.String()
    background = fields.String()
    outputFormat = fields.String()
    grounding = fields.Boolean()

    @validates_schema(skip_on_field_errors=False, pass_original=True)
    def _check_by_model(self, given: Mapping[str, Any], original: Any, **_: Any) -> None:
        # A model that is none has been told already, and is no longer in `given`.
        name = original.get("model", DEFAULT_MODEL) if isinstance(original, Mapping) else ""
        model = MODELS.get(name) if isinstance(name, str) else None
        faults = {field: [text] for field, text in _faults(name, model, given)} if model else {}
        if faults:
            raise ValidationError(faults)


def completed(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters with model and ratio, which Runway demands and callers may leave out."""
    model = parameters.get("model", DEFAULT_MODEL)
    default = {"ratio": MODELS[model].ratios.split()[0]} if model in MODELS else {}
    return {"model": model, **default, **parameters}


def _faults(name: str, model: Model, given: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """Parameter and fault, for what this model does not take."""
    units = len(given.get("promptText", "").encode("utf-16-le", "surrogatepass")) // 2
    if units > model.prompt_units:
        yield "promptText", f"{name} takes {model.prompt_units} UTF-16 code units, this has {units}."
    ratio, ratios = given.get("ratio"), model.ratios.split()
    if ratio and ratio not in ratios and not (model.any_size and _sides(ratio)):
        yield "ratio", f"{name} does not take it; nearest are {' and '.join(_nearest(ratio, ratios))}."
    images, (least, most) = given.get("referenceImages", ()), model.references
    marks = {mark for image in images for mark in image} - {"uri", *model.marks.split()}
    if not least <= len(images) <= most:
        yield "referenceImages", f"{name} takes {least} to {most}, here are {len(images)}."
    elif marks:
        yield "referenceImages", f"{name} takes no {' or '.join(sorted(marks))}."
    for field in sorted(given.keys() & SPECIAL - set(model.takes.split())):
        yield field, f"{name} has no such parameter: leave it out."
    if model.counts and str(given.get("outputCount", 1)) not in model.counts.split():
        yield "outputCount", f"{name} makes one of {model.counts}."


def _sides(ratio: str) -> tuple[int, int] | None:
    found = re.fullmatch(r"([1-9]\d{1,4}):([1-9]\d{1,4})", ratio, re.ASCII)
    return (int(found[1]), int(found[2])) if found else None


def _nearest(ratio: str, ratios: list[str]) -> list[str]:
    """The two of the most similar shape, then size; the default where it is no ratio at all."""
    wide, high = _sides(ratio) or (1280, 720)

    def distance(candidate: str) -> float:
        width, height = _sides(candidate) or (1, 1)
        shape, size = width / height * high / wide, width * height / wide / high
        return 4 * abs(math.log(shape)) + abs(math.log(size))

    return sorted(ratios, key=distance)[:2]
