"""What may be asked of the official API's text_to_image, and what is wrong with a request, issue by issue.

Limits: github.com/runwayml/sdk-python 5.24.0, text_to_image_create_params.py. The Gen-4 models are checked as
there; of the others, only what all have in common. The wording of the issues is a guess.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

GEN4_RATIOS = frozenset(
    "1024:1024 1080:1080 1168:880 1360:768 1440:1080 1080:1440 1808:768 1920:1080 1080:1920 2112:912 "
    "1280:720 720:1280 720:720 960:720 720:960 1680:720".split()
)
GEN4_REFERENCES = {"gen4_image": (0, 3), "gen4_image_turbo": (1, 3)}
GEN4_FIELDS = frozenset("model promptText ratio referenceImages seed contentModeration".split())
GEN4_UNITS = 1000
OTHER_MODELS = frozenset(
    "gemini_2.5_flash gemini_image3_pro gemini_image3.1_flash gemini_image3.1_flash_lite gpt_image_2 "
    "gpt_image_2_5_flare gpt_image_2_5_sunburst muse_image seedream5_pro seedream5_lite seedream5_flash "
    "grok_imagine_image_2 bria_fibo_1_5 bria_fibo_edit_1_5 ideogram_4_0 ideogram_4_5 nano_banana_2.1 "
    "recraft_v4_1_flash recraft_v4_1_vector".split()
)
MOST_OUTPUTS = 10

Issue = tuple[list[object], str]


def find_issues(body: object) -> list[Issue]:
    """Path and message of everything that is wrong; empty: the request is right."""
    if not isinstance(body, Mapping):
        return [([], "Expected object")]
    issues = list(_common(body))
    if body.get("model") in GEN4_REFERENCES:
        issues += _gen4(body, str(body["model"]))
    return issues


def read_size(ratio: str) -> tuple[int, int]:
    """Width and height; a square where the model is to choose, and no strip thinner than 1:4."""
    found = re.fullmatch(r"(\d+):(\d+)", ratio)
    width, height = (int(found[1]), int(found[2])) if found else (1024, 1024)
    return max(width, height // 4), max(height, width // 4)


def _common(body: Mapping[str, object]) -> Iterator[Issue]:
    if body.get("model") not in OTHER_MODELS | GEN4_REFERENCES.keys():
        yield ["model"], "Invalid discriminator value"
    prompt, ratio, count = body.get("promptText"), body.get("ratio"), body.get("outputCount", 1)
    if not isinstance(prompt, str) or not prompt:
        yield ["promptText"], "Required" if prompt is None else "Expected a non-empty string"
    if not isinstance(ratio, str) or not re.fullmatch(r"[1-9]\d{1,4}:[1-9]\d{1,4}|auto(_[12]k)?", ratio):
        yield ["ratio"], "Required" if ratio is None else "Invalid option"
    if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= MOST_OUTPUTS:
        yield ["outputCount"], "Invalid option"
    images = body.get("referenceImages", [])
    for place, image in enumerate(images if isinstance(images, list) else [None]):
        if not isinstance(image, Mapping) or not re.match(r"https://|runway://|data:image/", _uri(image)):
            yield ["referenceImages", place, "uri"], "Invalid asset URI"


def _gen4(body: Mapping[str, object], model: str) -> Iterator[Issue]:
    if isinstance(body.get("promptText"), str):
        units = len(str(body["promptText"]).encode("utf-16-le", "surrogatepass")) // 2
        if units > GEN4_UNITS:
            yield ["promptText"], f"Too big: expected string to have <={GEN4_UNITS} UTF-16 code units"
    if isinstance(body.get("ratio"), str) and body["ratio"] not in GEN4_RATIOS:
        yield ["ratio"], "Invalid option: expected one of " + "|".join(sorted(GEN4_RATIOS))
    least, most = GEN4_REFERENCES[model]
    images = body.get("referenceImages", [])
    if isinstance(images, list) and not least <= len(images) <= most:
        yield ["referenceImages"], f"Expected {least} to {most} images"
    seed = body.get("seed", 0)
    if not isinstance(seed, int) or isinstance(seed, bool):
        yield ["seed"], "Expected integer"
    for name in sorted(body.keys() - GEN4_FIELDS):
        yield [name], "Unrecognized key"


def _uri(image: Mapping[str, object]) -> str:
    return str(image.get("uri", ""))
