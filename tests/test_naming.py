"""What a picture is called: as it is asked for, never the same twice, never elsewhere."""

from __future__ import annotations

import itertools
from pathlib import PurePosixPath
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from orchestrator.models import Job, State
from orchestrator.naming import DEFAULT, FIELDS, Naming, faults
from orchestrator.schemas import NAME

ID = "0a1b2c3d-0000-4000-8000-000000000001"
WILD = [
    *("..", ".", "../up", "../../../etc/cron.d/x", "/etc/passwd", "a/b", "a\\b", "a/../../b", "~/x", "~root"),
    *("a\0b", "a\nb", "*", "a[bc]", "a?b", "a#b", "a%2e%2e", "s3::x", ".hidden", "-rf", " ", "x" * 4000),
    *(
        "\u2025/",
        "\uff0e\uff0e",
        "\ud800",
        "\u202egnp.exe",
        "file:///etc/passwd",
        "{a,b}",
        "{job}",
        "a//b",
        "é",
    ),
]
TEMPLATES = [
    DEFAULT,
    "{job}-{place}",
    "{batch}/{custom_id}/{place}",
    "{date}/{provider}/{account}/{custom_id}/{job}-{place}",
    "pictures of {tenant}/{place}.{job}",
    "{batch}/{custom_id}_{place}_{date}",
]


def job(**fields: Any) -> Job:
    told = {
        "id": ID, "provider": "useapi_frames", "parameters": {}, "state": State.COLLECTING, "batch": "autumn",
        "priority": 0, "attempts": 1, "failures": 0, "account": "studio-1", "created_at": 1_763_700_000.0,
        "ended_at": None, "options": {}, "error": None, "reason": "", "artifact_urls": (), "result": None,
        "collect_failures": 0, "due_at": None, "expires_at": None, "tenant": "", "target": "useapi_frames",
        "custom_id": "line-7",
    }  # fmt: skip
    return Job(**{**told, **fields})


@pytest.mark.parametrize(
    ("template", "fields", "name"),
    [
        (DEFAULT, {}, f"autumn/{ID}-2"),
        (DEFAULT, {"batch": ""}, f"jobs/{ID}-2"),
        (DEFAULT, {"batch": "acme/autumn", "tenant": "acme"}, f"acme/autumn/{ID}-2"),
        ("{batch}/{custom_id}-{place}", {}, "autumn/line-7-2"),
        ("{batch}/{custom_id}-{place}", {"custom_id": ""}, f"autumn/{ID}-2"),
        ("{batch}/{custom_id}-{place}", {"batch": ""}, f"jobs/{ID}-2"),  # it names a job within a batch only
        ("{date}/{provider}/{account}/{job}-{place}", {}, f"2025-11-21/useapi_frames/studio-1/{ID}-2"),
        ("{tenant}/{job}-{place}", {}, f"nobody/{ID}-2"),
        ("all pictures/no. {place} of/{job}", {}, f"all pictures/no. 2 of/{ID}"),
    ],
)
def test_a_name_is_made_of_its_fields(template, fields, name):
    assert faults(template) == []
    assert Naming(template).name(job(**fields), 2) == name


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("wild", WILD)
def test_no_name_leads_elsewhere(template, wild):
    assert faults(template) == []
    for fields in ({"id": wild}, {"custom_id": wild}, {"batch": wild}, {"tenant": wild, "account": wild}):
        name = Naming(template).name(job(**fields), 1)
        assert name.isprintable() and name.isascii()
        parts = PurePosixPath(name).parts
        assert "/".join(parts) == name
        assert all(part[0] not in "./~*" and len(part.encode()) < 230 for part in parts)


words = some.one_of(
    some.sampled_from([*WILD, "a", "a-1", "1", "a/1", "jobs", "a-1-2", ID]), some.text(max_size=9)
)


@given(
    template=some.sampled_from(TEMPLATES),
    first=some.tuples(words, words, words, some.integers(1, 12)),
    second=some.tuples(words, words, words, some.integers(1, 12)),
)
def test_no_two_pictures_have_one_name(template, first, second):
    """Where they are of different jobs: ids are not given twice, nor is a custom_id within a batch."""
    if first[0] == second[0] or first[1:3] == second[1:3]:
        return
    names = {
        Naming(template).name(job(id=id_, batch=batch.replace("/", "_"), custom_id=custom), place)
        for id_, batch, custom, place in (first, second)
    }
    assert len(names) == 2


@pytest.mark.parametrize("template", TEMPLATES)
def test_names_that_are_nearly_the_same_are_not(template):
    likely = ["a", "a-1", "1", "a-1-2", "a_b", "a b", "a.b", "a_b-0011223344556677", "x" * 200, "x" * 201]
    made = [
        Naming(template).name(job(id=f"{batch}~{custom}", batch=batch, custom_id=custom), place)
        for batch, custom, place in itertools.product(likely, likely, (1, 2, 12))
    ]
    assert len(set(made)) == len(made)


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_batch_that_is_called_as_the_folder_of_jobs_without_one_has_another(template):
    alone, theirs = job(id="A", batch=""), job(id=ID, batch="jobs", custom_id="A")
    assert Naming(template).name(alone, 1) != Naming(template).name(theirs, 1)
    batch = Naming().name(theirs, 1).split("/")[0]
    assert NAME(batch) == batch != "jobs"
    assert Naming().name(job(batch=batch), 1).split("/")[0] != batch


@pytest.mark.parametrize("custom", ["a/b", "a\\b", "a//b", "a*b", "../a/b"])
def test_what_a_changed_word_looks_like_is_no_other_words_name(custom):
    naming = Naming("{batch}/{custom_id}/{place}")
    made = naming.name(job(custom_id=custom), 1)
    assert naming.name(job(custom_id=made.split("/")[1]), 1) != made


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{job}", "add {place}, as in {job}-{place}"),
        ("{batch}/{place}", "add {job}, or {batch} and {custom_id}"),
        ("{custom_id}-{place}", "add {job}, or {batch} and {custom_id}"),
        ("{batch}-{custom_id}/{place}", "{batch} and {custom_id} run into each other: put / between them"),
        ("{custom_id}-{job}/{place}", "{custom_id} and {job} run into each other"),
        ("{job}{place}", "{place} runs into what stands beside it"),
        ("{place}{job}", "{place} runs into"),
        ("{job}-{place}0", "{place} runs into"),
        ("{job}-0{place}", "{place} runs into"),
        ("{prompt}/{job}-{place}", "{prompt} is not known; known are {batch}, {job}"),
        ("../{job}-{place}", "is no name"),
        ("/{job}-{place}", "is no name"),
        ("{job}-{place}/", "is no name"),
        ("a//{job}-{place}", "is no name"),
        (".hidden/{job}-{place}", "is no name"),
        ("{job.__class__}-{place}", "is no name"),
        ("{job!r}-{place}", "is no name"),
        ("{job:>999}-{place}", "is no name"),
        ("{}-{place}", "is no name"),
        ("{job}-{place}\n", "is no name"),
        ("a\\{job}-{place}", "is no name"),
        ("*{job}-{place}", "is no name"),
        ("x" * 200 + "{job}-{place}", "is no name"),
        ("", "is no name"),
    ],
)
def test_a_template_that_could_lose_a_picture_is_refused(template, words):
    assert words in "; ".join(faults(template))


def test_every_field_is_known():
    assert faults("/".join(f"{{{name}}}" for name in FIELDS)) == []
