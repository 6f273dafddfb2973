"""A reference names one attempt, and only who has our key can make one."""

from __future__ import annotations

import string

import pytest

from orchestrator.errors import BadReference
from orchestrator.models import Secret
from orchestrator.signatures import MAX_REFERENCE_CHARACTERS, Reference, read_reference, sign_reference

PROVIDER = "useapi_frames"
KEY, OTHER_KEY = Secret("a" * 32), Secret("b" * 32)
REFERENCE = Reference("6f1f8a52-5a5c-4b36-9d70-0c2b8e2f4d11.2", "studio-1")


@pytest.fixture
def signed() -> str:
    return sign_reference(PROVIDER, REFERENCE, [KEY])


def flip(text: str, place: int) -> str:
    """Another letter of the alphabet at one place."""
    other = "A" if text[place] != "A" else "B"
    return text[:place] + other + text[place:][1:]


def test_a_reference_comes_back_as_it_was_signed(signed):
    assert read_reference(PROVIDER, signed, [KEY]) == REFERENCE


def test_a_reference_fits_a_url_path_and_the_reply_ref(signed):
    assert set(signed) <= set(string.ascii_letters + string.digits + "-_.")
    assert len(signed) <= MAX_REFERENCE_CHARACTERS


def test_the_same_reference_is_signed_the_same_way_twice(signed):
    assert sign_reference(PROVIDER, REFERENCE, [KEY]) == signed


def test_the_old_key_still_verifies_after_a_new_one_was_put_first(signed):
    assert read_reference(PROVIDER, signed, [OTHER_KEY, KEY]) == REFERENCE


def test_the_first_key_signs():
    rotated = sign_reference(PROVIDER, REFERENCE, [OTHER_KEY, KEY])
    assert read_reference(PROVIDER, rotated, [OTHER_KEY]) == REFERENCE
    with pytest.raises(BadReference):
        read_reference(PROVIDER, rotated, [KEY])


def test_no_single_letter_of_a_reference_can_be_changed(signed):
    for place in range(len(signed)):
        with pytest.raises(BadReference):
            read_reference(PROVIDER, flip(signed, place), [KEY])


@pytest.mark.parametrize(
    "broken",
    [
        lambda text: "",
        lambda text: ".",
        lambda text: text.partition(".")[0],  # without its signature
        lambda text: text.partition(".")[0] + ".",
        lambda text: "." + text.partition(".")[2],
        lambda text: text[:-1],
        lambda text: text + "=",  # another spelling of the same bytes
        lambda text: text + "\n",
        lambda text: text + "." + text,
        lambda text: text + "A" * MAX_REFERENCE_CHARACTERS,
        lambda text: text.replace(".", "ü."),  # not ASCII
        lambda text: text.replace(".", "\0."),
        lambda text: REFERENCE.attempt_id,  # what is sent where there is no key
    ],
)
def test_whatever_is_wrong_the_refusal_is_the_same(signed, broken):
    with pytest.raises(BadReference) as refused:
        read_reference(PROVIDER, broken(signed), [KEY])
    assert str(refused.value) == "not a reference of ours"


def test_a_reference_of_another_provider_is_refused(signed):
    with pytest.raises(BadReference):
        read_reference("runway", signed, [KEY])


def test_without_keys_nothing_is_believed(signed):
    with pytest.raises(BadReference):
        read_reference(PROVIDER, signed, [])


def test_a_signature_of_one_reference_does_not_fit_another(signed):
    other = sign_reference(PROVIDER, Reference(REFERENCE.attempt_id, "studio-2"), [KEY])
    with pytest.raises(BadReference):
        read_reference(PROVIDER, f"{other.partition('.')[0]}.{signed.partition('.')[2]}", [KEY])


def test_two_spellings_of_the_same_bytes_are_not_both_accepted():
    # Base64 leaves bits of the last letter unused; where they differ, a text is not one we made.
    for attempt in ("j.1", "jo.1", "job.1"):
        signed = sign_reference(PROVIDER, Reference(attempt, "s"), [KEY])
        accepted = []
        for letter in string.ascii_letters + string.digits + "-_":
            try:
                accepted.append(read_reference(PROVIDER, signed[:-1] + letter, [KEY]))
            except BadReference:
                continue
        assert accepted == [Reference(attempt, "s")]
