"""One request for several providers: what each makes of it, what each refuses, and what moderation judges."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.errors import Invalid, Unsupported
from orchestrator.provider import Provider
from orchestrator.providers import registry
from orchestrator.schemas import ASPECT_RATIOS, PortableRequest, check

PROVIDERS = registry()
SHAPES = "1:1 16:9 9:16 4:3 3:4 21:9".split()
SIZES = dict(zip(SHAPES, "720:720 1280:720 720:1280 960:720 720:960 1680:720".split(), strict=True))
# What each provider makes of an aspect ratio; it refuses what is not here. The contract tests ask the others.
RATIOS: dict[str, dict[str, dict[str, str]]] = {
    "freepik_runway": {shape: {"ratio": size} for shape, size in SIZES.items()},
    "runway": {shape: {"ratio": size} for shape, size in SIZES.items()},
    "useapi_frames": {shape: {"aspect_ratio": shape} for shape in SHAPES},
    "useapi_preview": {shape: {"aspect_ratio": shape} for shape in SHAPES},
    "webhook_json": {},
}
# What each adds of its own where only a prompt is given.
OWN: dict[str, dict[str, str]] = {
    "freepik_runway": {"ratio": "1280:720"},
    "runway": {"model": "gen4_image", "ratio": "1280:720"},
}


def translated(name: str, **request: Any) -> dict[str, Any]:
    """As a job would be made: every step is checked."""
    provider = PROVIDERS[name]
    asked = check(PortableRequest, {"prompt": "a fox", **request}, "portable request")
    return check(provider.schema, provider.translate(asked), name)


def prompt(name: str, **request: Any) -> str:
    return str(translated(name, **request)[PROVIDERS[name].prompt_parameter])


# --- the request --------------------------------------------------------------------------------------


def test_a_request_is_taken_as_it_is():
    request = {"prompt": " a fox\n", "aspect_ratio": "16:9", "seed": 7, "style": "80's pixel_art-deco"}
    assert check(PortableRequest, request, "r") == request


@pytest.mark.parametrize(
    ("request_", "fault"),
    [
        ({}, "prompt: Missing data"),
        ({"prompt": ""}, "prompt = '': Must not be empty: say what is to be seen"),
        ({"prompt": " \n"}, r"prompt = ' \\n': Must not be empty"),
        ({"prompt": 5}, "prompt = 5: Not a valid string"),
        ({"aspect_ratio": "16/9"}, "aspect_ratio = '16/9': Must be one of: 1:1, 16:9, "),
        ({"aspect_ratio": "1280:720"}, "aspect_ratio = '1280:720': Must be one of"),
        ({"seed": "7"}, "seed = '7': Not a valid integer"),
        ({"seed": 7.0}, "seed = 7.0: Not a valid integer"),
        ({"seed": True}, "seed = True: Not a valid integer"),
        ({"seed": -1}, "seed = -1: Must be greater than or equal to 0"),
        ({"seed": 2**32}, "seed = 4294967296: Must be .* less than or equal to 4294967295"),
        ({"style": ""}, "style = '': Must be 1 to 40 letters"),
        ({"style": "x" * 41}, "style = .*: Must be 1 to 40 letters"),
        ({"style": "sketch. Ignore"}, "style = .*: Must be 1 to 40 letters"),
        ({"style": "sketch\n"}, "style = .*: Must be 1 to 40 letters"),
        ({"style": " sketch"}, "style = .*: Must be 1 to 40 letters"),
        (
            {"text_prompt": "a fox"},
            "text_prompt = 'a fox': A portable request has no such field: leave it out",
        ),
    ],
)
def test_a_fault_names_field_value_and_cure(request_, fault):
    whole = request_ if not request_ or "prompt" in request_ else {"prompt": "a fox", **request_}
    with pytest.raises(Invalid, match=f"^portable request: {fault}"):
        check(PortableRequest, whole, "portable request")


def test_what_is_no_mapping_is_refused_in_words():
    with pytest.raises(Invalid, match="must be a mapping of names to values"):
        check(PortableRequest, "a fox", "portable request")


# --- what each provider makes of it -------------------------------------------------------------------


@pytest.mark.parametrize("name", RATIOS)
def test_a_prompt_alone_is_enough_everywhere(name):
    provider = PROVIDERS[name]
    assert translated(name) == {provider.prompt_parameter: "a fox", **OWN.get(name, {})}


@pytest.mark.parametrize("ratio", ASPECT_RATIOS)
@pytest.mark.parametrize("name", RATIOS)
def test_an_aspect_ratio_is_the_providers_own_or_refused_with_the_cure(name, ratio):
    if ratio in RATIOS[name]:
        expected = {PROVIDERS[name].prompt_parameter: "a fox", **OWN.get(name, {}), **RATIOS[name][ratio]}
        assert translated(name, aspect_ratio=ratio) == expected
        return
    with pytest.raises(Unsupported) as refused:
        translated(name, aspect_ratio=ratio)
    message = str(refused.value)
    assert message.startswith(f"{name}: aspect_ratio = '{ratio}'")
    assert message.endswith(f"or leave {name} out")
    assert all(shape in message for shape in RATIOS[name])


@pytest.mark.parametrize("name", sorted(RATIOS.keys() - {"webhook_json"}))
def test_a_seed_is_passed_on_where_the_provider_takes_it(name):
    assert translated(name, seed=7)["seed"] == 7


@pytest.mark.parametrize("seed", [0, 4294967295])
@pytest.mark.parametrize("name", ["useapi_frames", "useapi_preview"])
def test_a_seed_beyond_the_providers_range_is_refused_by_its_schema(name, seed):
    assert translated("freepik_runway", seed=seed)["seed"] == seed
    with pytest.raises(Invalid, match=f"^{name}: seed = {seed}: Must be .* equal to 1 .* 4294967294"):
        translated(name, seed=seed)


def test_an_api_without_code_names_all_it_cannot_say():
    with pytest.raises(Unsupported) as refused:
        translated("webhook_json", aspect_ratio="16:9", seed=7)
    assert str(refused.value) == (
        "webhook_json: aspect_ratio = '16:9', seed = 7: what its API calls this is unknown; it takes prompt "
        "and style. Leave the rest out, or leave webhook_json out"
    )


def test_a_provider_that_does_not_translate_says_what_to_do():
    with pytest.raises(Unsupported) as refused:
        Provider.translate(PROVIDERS["runway"], {"prompt": "a fox"})
    assert str(refused.value) == (
        "runway takes no portable request: ask it by itself, in its own parameters "
        "(https://docs.dev.runwayml.com/api), or leave runway out"
    )


# --- style --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "style", "own"),
    [
        ("useapi_frames", "sketch", "sketch"),
        ("useapi_frames", "Light Anime", "light-anime"),
        ("useapi_frames", "3d_cartoon", "3d-cartoon"),
        ("useapi_preview", "3d cartoon", "3d_cartoon"),
        ("useapi_preview", "sci-fi art", "sci-fi_art"),
    ],
)
def test_a_style_the_provider_has_is_its_parameter_however_it_is_spelt(name, style, own):
    assert translated(name, style=style) == {"text_prompt": "a fox", "style": own}


@pytest.mark.parametrize(
    ("name", "style", "words"),
    [
        ("freepik_runway", "sketch", "a fox, in sketch style"),
        ("runway", "light-anime", "a fox, in light-anime style"),
        ("webhook_json", "pixel_art", "a fox, in pixel art style"),
        ("useapi_preview", "sketch", "a fox, in sketch style"),
        ("useapi_frames", "oil  painting", "a fox, in oil painting style"),
    ],
)
def test_a_style_the_provider_does_not_have_becomes_words_of_the_prompt(name, style, words):
    provider = PROVIDERS[name]
    assert translated(name, style=style) == {provider.prompt_parameter: words, **OWN.get(name, {})}


def test_a_prompt_is_kept_but_for_the_space_before_a_style():
    assert prompt("runway", prompt=" a {fox} \n") == " a {fox} \n"
    assert prompt("runway", prompt=" a {fox} \n", style="sketch") == " a {fox}, in sketch style"


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("freepik_runway", "prompt = .*: Length must be between 1 and 1000"),
        ("runway", "promptText = .*: gen4_image takes 1000 UTF-16 code units, this has 1018"),
        ("useapi_frames", "text_prompt = .*: Length must be between 1 and 1000"),
    ],
)
def test_a_prompt_that_its_style_makes_too_long_is_refused(name, fault):
    assert len(prompt(name, prompt="x" * 1000)) == 1000
    with pytest.raises(Invalid, match=f"^{name}: {fault}"):
        translated(name, prompt="x" * 1000, style="gouache")


# --- what moderation judges ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", RATIOS)
def test_content_is_the_prompt_whatever_its_case_and_spacing(name):
    provider = PROVIDERS[name]

    def content(prompt: str) -> str:
        return provider.content({provider.prompt_parameter: prompt})

    assert content("A fox on the Straße") == content("  a FOX\ton the\nSTRASSE ")
    assert content("a fox") != content("afox")


@pytest.mark.parametrize("name", RATIOS)
def test_content_is_the_same_for_another_seed_and_ratio(name):
    provider = PROVIDERS[name]
    parameters = {provider.prompt_parameter: "a fox"}
    assert provider.content({**parameters, "seed": 7, "ratio": "720:720"}) == provider.content(parameters)


def image(uri: str) -> dict[str, str]:
    return {"uri": uri, "tag": "fox"}


@pytest.mark.parametrize(
    ("name", "one", "other"),
    [
        ("useapi_frames", {"imageAssetId1": "a"}, {"imageAssetId1": "b"}),
        ("useapi_frames", {"imageAssetId3": "a"}, {}),
        ("runway", {"referenceImages": [image("runway://a")]}, {"referenceImages": [image("runway://b")]}),
        ("webhook_json", {"parameters": {"image": "a"}}, {"parameters": {"image": "b"}}),
    ],
)
def test_content_is_another_for_another_image(name, one, other):
    provider = PROVIDERS[name]
    base = {provider.prompt_parameter: "a fox"}
    assert provider.content({**base, **one}) != provider.content({**base, **other})


def test_content_does_not_depend_on_the_order_of_names():
    turned = {"tag": "fox", "uri": "runway://a"}
    runway = PROVIDERS["runway"]
    assert runway.content(
        {"promptText": "a fox", "referenceImages": [image("runway://a")]}
    ) == runway.content({"referenceImages": [turned], "promptText": "a fox"})


def test_content_stays_the_same_from_release_to_release():
    # It is kept: what was refused before an upgrade is not to be sent after it.
    parameters = {"text_prompt": "A fox", "seed": 7}
    assert PROVIDERS["useapi_frames"].content(parameters) == "3d2bca9af326348095b6356ae2bd30c3"


def test_the_prompt_is_what_is_judged_where_a_provider_names_nothing(monkeypatch):
    runway = PROVIDERS["runway"]
    parameters = {"promptText": "a fox"}
    images = {**parameters, "referenceImages": [image("runway://a")]}
    monkeypatch.setattr(type(runway), "content_parameters", ())
    assert runway.content(parameters) == runway.content(images)
