"""Files as they come: every format, everything that can be wrong with one, and the file of outcomes."""

from __future__ import annotations

import gzip
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from orchestrator.errors import BadFile
from orchestrator.exchange import Exchange
from orchestrator.files.checking import Asked, Faults, check
from orchestrator.files.formats import format_of
from orchestrator.files.outcome import COLUMNS, Outcome, csv_line, from_csv, from_json, json_line
from orchestrator.files.outcomes import Outcomes
from orchestrator.files.reading import Record, records
from orchestrator.files.source import Source, declared
from orchestrator.files.spool import Spool
from orchestrator.models import NewJob
from orchestrator.providers import registry

FRAMES = "useapi_frames"
Read = Callable[..., list[Record]]


@pytest.fixture
def exchange() -> Exchange:
    return Exchange(None, None, registry(), {}, (), None)  # type: ignore[arg-type]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """The records of a file of this name and content."""

    def records_of(name: str, content: bytes | str) -> list[Record]:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return list(records(str(path), format_of(name)))

    return records_of


def parquet(path: Path, **columns: list[Any]) -> Path:
    pyarrow.parquet.write_table(pyarrow.table(columns), path, row_group_size=2)
    return path


# --- reading -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", '{"text_prompt": "a fox"}\n{"text_prompt": "an owl"}\n'),
        ("no line end.jsonl", '{"text_prompt": "a fox"}\n{"text_prompt": "an owl"}'),
        ("blank.ndjson", '\n{"text_prompt": "a fox"}\n \r\n\n{"text_prompt": "an owl"}\n\n'),
        ("windows.jsonl", b'\xef\xbb\xbf{"text_prompt": "a fox"}\r\n{"text_prompt": "an owl"}\r\n'),
        ("a.csv", "text_prompt\na fox\nan owl\n"),
        ("excel.csv", b"\xef\xbb\xbftext_prompt,seed\r\na fox,\r\n,\r\n\r\nan owl,"),
        ("A.JSONL.gz", gzip.compress(b'{"text_prompt": "a fox"}\n{"text_prompt": "an owl"}\n', mtime=0)),
        ("a.csv.gz", gzip.compress(b"text_prompt\na fox\nan owl", mtime=0)),
    ],
)
def test_records_are_numbered_and_blank_lines_do_not_count(name, content, read):
    found = read(name, content)
    assert [(record.number, record.values, record.fault) for record in found] == [
        (1, {"text_prompt": "a fox"}, ""),
        (2, {"text_prompt": "an owl"}, ""),
    ]


def test_parquet_is_read_by_row_groups_and_what_is_null_is_absent(tmp_path):
    path = parquet(tmp_path / "a.parquet", text_prompt=["a", "b", "c"], seed=[1, None, 3])
    found = list(records(str(path), format_of(path.name)))
    assert [record.values for record in found] == [
        {"text_prompt": "a", "seed": 1}, {"text_prompt": "b"}, {"text_prompt": "c", "seed": 3},
    ]  # fmt: skip
    assert found[1].place == "row 2"


def test_quoted_cells_hold_commas_quotes_and_line_ends_and_places_are_physical_lines(read):
    first, second = read("a.csv", 'text_prompt,style\n"a ""fox"", in\nfog",sketch\nb,\n')
    assert first.values == {"text_prompt": 'a "fox", in\nfog', "style": "sketch"}
    assert (first.place, second.place) == ("line 2", "line 4")


GOOD = '{"text_prompt": "a"}\n'
# a line of JSON that is wrong, and what is said of it
WRONG_LINES = [
    (b'{"a": 1', "Expecting ',' delimiter at character 8"),
    (b"[1]", "[1] is no object"),
    (b'"a fox"', "'a fox' is no object"),
    (b'{"a": NaN}', "NaN is no JSON number"),
    (b'{"a": 1, "a": 2}', "'a' is said twice"),
    (b'{"a": "caf\xe9"}', "byte 11 is 0xe9"),
    (b'{"a": "\x00"}', "a NUL byte at byte 8"),
    (b'{"a": "\\ud83d"}', "half a character"),
    (b"[" * 100_000, "nested too deeply"),
    (b'{"a": "' + b"x" * 10 * 2**20 + b'"}', "longer than 8 MiB"),
]


@pytest.mark.parametrize(("line", "said"), WRONG_LINES, ids=[said for _, said in WRONG_LINES])
def test_wrong_line_is_told_and_the_lines_around_it_are_read(line, said, read):
    before, wrong, after = read("a.jsonl", GOOD.encode() + line + b"\n" + GOOD.encode())
    assert said in wrong.fault and wrong.place == "line 2" and wrong.number == 2
    assert not before.fault and not after.fault and after.number == 3


# a row of two columns, and what is said of it
WRONG_ROWS = [
    (b"a", "1 cells, and the header 2"),
    (b"a,b,c", "3 cells, and the header 2"),
    (b"caf\xe9,", "byte 4 is 0xe9"),
    (b"\x00,", "a NUL byte at byte 1"),
    (b"x" * 10 * 2**20, "longer than 8 MiB"),
]


@pytest.mark.parametrize(("row", "said"), WRONG_ROWS, ids=[said for _, said in WRONG_ROWS])
def test_wrong_row_is_told_and_the_rows_around_it_are_read(row, said, read):
    before, wrong, after = read("a.csv", b"text_prompt,style\na,\n" + row + b"\nb,\n")
    assert said in wrong.fault and wrong.place == "line 3"
    assert not before.fault and after.values == {"text_prompt": "b"}


# a file that cannot be read at all, and what is said of it
BAD_FILES = [
    ("a.jsonl", "a".encode("utf-16"), "it is UTF-16"),
    ("a.csv", gzip.compress(b"a", mtime=0), "let its name end in .gz"),
    ("a.csv", b"PK\x03\x04", "save it as CSV"),
    ("a.csv", b"text_prompt;seed\na;1\n", "separate the columns by commas"),
    ("a.csv", b"a,b,a\n1,2,3\n", "'a' stands there twice"),
    ("a.csv", b"a,,b\n1,2,3\n", "column 2 has no name"),
    ("a.csv", b'a,b\n1,"2\n3,4\n', "from line 2 on it is no CSV"),
    ("a.jsonl.gz", gzip.compress(b"{}\n" * 1000, mtime=0)[:-10], "was cut off"),
    ("a.jsonl.gz", b"{}", "was cut off"),
    ("a.parquet", b"no parquet", "cannot be read as Parquet"),
    ("a.txt", b"", "its name must say what it is"),
    ("a.parquet.gz", b"", "its name must say what it is"),
]


@pytest.mark.parametrize(("name", "content", "said"), BAD_FILES, ids=[said for *_, said in BAD_FILES])
def test_file_that_cannot_be_read_is_told_with_the_cure(name, content, said, read):
    with pytest.raises(BadFile, match=f"{name}.*{said}"):
        read(name, content)


def test_file_that_is_not_there_is_told(tmp_path):
    for path in (tmp_path / "none.jsonl", tmp_path / "none.parquet"):
        with pytest.raises(BadFile, match="No such file"):
            list(records(str(path), format_of(path.name)))
    (tmp_path / "a.jsonl").mkdir()
    with pytest.raises(BadFile, match="Is a directory"):
        list(records(str(tmp_path / "a.jsonl"), format_of("a.jsonl")))


def test_parquet_values_that_are_no_json_are_told(tmp_path):
    path = parquet(tmp_path / "a.parquet", seed=[1.5, float("nan")], ok=[b"x", None])
    first, second = records(str(path), format_of(path.name))
    assert "ok = b'x': bytes is no JSON" in first.fault
    assert "seed = nan: float is no JSON" in second.fault


def test_missing_pyarrow_is_told_with_the_cure(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(BadFile, match=r"pip install 'orchestrator\[parquet\]'"):
        Outcomes("a.parquet")


# --- checking ------------------------------------------------------------------------------------------


def checked(
    exchange: Exchange, found: list[Record], providers: tuple[str, ...] = (FRAMES,), is_csv: bool = False,
    parameters: Any = None, errors: Path | None = None, **options: Any,
) -> tuple[list[NewJob], Faults]:  # fmt: skip
    asked = Asked(list(providers), parameters or {}, {"batch": "b", "tenant": "", **options})
    types = declared(exchange, providers) if is_csv else None
    with Spool() as spool:
        faults = Faults(errors)
        check(exchange, asked, found, types, spool, faults, 0.0, lambda number: None)
        faults.close()
        return [job for jobs in spool.chunks(2) for job in jobs], faults


def test_cells_are_typed_by_the_provider_and_records_win_over_what_all_share(read, exchange):
    found = read(
        "a.csv", 'text_prompt,seed,exploreMode,priority,custom_id\n12,7,true,9,007\n"1e5",,,,\n,8,,,\n'
    )
    jobs, faults = checked(exchange, found[:2], is_csv=True, parameters={"seed": 5}, priority=2)
    assert [(job.parameters, job.priority, job.custom_id) for job in jobs] == [
        ({"text_prompt": "12", "seed": 7, "exploreMode": True}, 9, "007"),
        ({"text_prompt": "1e5", "seed": 5}, 2, "2"),
    ]
    assert not faults.count
    assert "text_prompt: Missing data" in checked(exchange, found[2:], is_csv=True)[1].first[0].error


def test_portable_requests_go_to_any_of_several_providers(read, exchange):
    found = read("a.csv", "prompt,aspect_ratio,seed\na fox,16:9,5\n")
    (job,), _ = checked(exchange, found, (FRAMES, "runway"), is_csv=True)
    assert set(job.choices) == {FRAMES, "runway"} and job.choices[FRAMES]["seed"] == 5


def test_faults_of_all_records_are_counted_and_written_and_the_first_are_kept(read, exchange, tmp_path):
    wrong = [{"text_prompt": "a", "seed": "x"} for _ in range(30)]
    more = [{"custom_id": "31 ", "text_prompt": "a"}, {"custom_id": 31, "text_prompt": "a"}]
    more += [{"custom_id": "31", "text_prompt": "b"}, {"custom_id": True, "text_prompt": "c"}, {"nope": 1}]
    content = "\n".join(json.dumps(each) for each in [*wrong, *more])
    jobs, faults = checked(exchange, read("a.jsonl", content), errors=tmp_path / "errors.jsonl")
    assert [job.custom_id for job in jobs] == ["31 ", "31"]
    written = [json.loads(line) for line in (tmp_path / "errors.jsonl").read_text().splitlines()]
    assert faults.count == len(written) == 33 and len(faults.first) == 20
    assert "seed = 'x': Not a valid integer" in written[0]["error"] and written[0]["place"] == "line 1"
    assert written[30]["error"] == "custom_id = '31': line 32 has it already"
    assert "custom_id = True: it must be text" in written[31]["error"]
    assert "nope" in written[32]["error"] and "text_prompt" in written[32]["error"]
    told = str(faults.bad_file("a.jsonl", "of 35 records cannot be sent"))
    assert "33 of 35 records cannot be sent" in told and "… and 13 more: see" in told


def test_batch_is_called_as_the_file_and_standard_input_needs_a_name():
    assert Source("in/autumn.v2.csv.gz", [FRAMES]).name == "autumn.v2"
    assert Source("autumn.csv", [FRAMES], tenant="acme").full_name == "acme/autumn"
    assert Source("prompts (1).csv", [FRAMES], batch="autumn").name == "autumn"
    for path in ("-", "in/prompts (1).csv"):
        with pytest.raises(BadFile, match="say --batch NAME") as refused:
            _ = Source(path, [FRAMES]).name
    assert str(refused.value).startswith("in/prompts (1).csv: no batch can be called 'prompts (1)'")


# --- outcomes ------------------------------------------------------------------------------------------


def told(number: int, state: str = "succeeded", **more: Any) -> Outcome:
    found = dict.fromkeys(COLUMNS) | {"custom_id": f"c{number}", "job": f"j{number}", "state": state}
    artifact = {
        "url": "http://x/1",
        "path": "/a/1.png",
        "media_type": "image/png",
        "bytes": 3,
        "sha256": "00",
    }
    numbers = {"attempts": 1, "seconds": 0.5, "cost": 2.0}
    return {**found, **numbers, "artifacts": [artifact], "provider": FRAMES, "fingerprint": "f", **more}


AWKWARD = told(1, "failed", message='a "quoted", text\nof two\u2028lines', error="Invalid", artifacts=[])


def test_outcome_is_one_line_whatever_it_holds_and_reads_back():
    assert from_json(json_line(AWKWARD)) == AWKWARD
    line = csv_line(AWKWARD)
    assert len(line.splitlines()) == 1
    assert from_csv(line) == {**AWKWARD, "message": 'a "quoted", text of two lines'}
    assert from_csv(csv_line(told(2))) == told(2)


NAMES = ("out.jsonl", "out.csv", "out.parquet", "out.jsonl.gz", "out.csv.gz")


@pytest.mark.parametrize("name", NAMES)
def test_outcomes_are_taken_up_again_in_every_format(name, tmp_path):
    path = str(tmp_path / name)
    with Outcomes(path) as outcomes:
        outcomes.append([told(1)])
        outcomes.append([told(2), told(3)])
        outcomes.finish()
    assert sorted(os.listdir(tmp_path)) == [name]
    with Outcomes(path) as outcomes:
        outcomes.append([told(4, "failed")])
        assert [each["custom_id"] for _, each in outcomes] == ["c1", "c2", "c3", "c4"]
        outcomes.finish()
    with Outcomes(path) as outcomes:
        assert [each for _, each in outcomes] == [told(1), told(2), told(3), told(4, "failed")]
        assert outcomes.tally().counts == {"succeeded": 3, "failed": 1} and outcomes.tally().cost == 8.0


@pytest.mark.parametrize("name", ["out.jsonl", "out.csv"])
def test_torn_end_is_cut_off_wherever_the_writer_was_killed(name, tmp_path):
    path = tmp_path / name
    with Outcomes(str(path)) as outcomes:
        outcomes.append([told(1), told(2)])
    whole = path.read_bytes()
    first = whole[: whole[:-1].rindex(b"\n") + 1]
    for kept in range(len(whole)):
        path.write_bytes(whole[:kept] + b"\0" * 3)
        with Outcomes(str(path)) as outcomes:
            known = [each["custom_id"] for _, each in outcomes]
            outcomes.cut_torn()
            outcomes.append([told(number) for number in (1, 2) if f"c{number}" not in known])
        assert path.read_bytes() == whole
        assert known == (["c1"] if kept >= len(first) else [])


@pytest.mark.parametrize("content", ["a fox", "a fox\n", '{"text_prompt": "a"}\n', '{"text_prompt": "a"}'])
@pytest.mark.parametrize("name", ["notes.jsonl", "notes.csv"])
def test_file_that_is_no_file_of_outcomes_is_refused_and_left_as_it_is(name, content, tmp_path):
    path = tmp_path / name
    path.write_text(content)
    with Outcomes(str(path)) as outcomes, pytest.raises(BadFile, match="name another --out"):
        list(outcomes)
        outcomes.cut_torn()
    assert path.read_text() == content


@pytest.mark.parametrize("name", NAMES)
def test_second_writer_is_refused_also_after_the_file_was_made_tidy(name, tmp_path):
    with Outcomes(str(tmp_path / name)) as first:
        first.append([told(1), told(1, "failed"), told(2)])
        with pytest.raises(BadFile, match="another `orchestrator run` writes it"), Outcomes(first.path):
            pass
        assert first.tidy(lambda at, each: each["state"] == "succeeded")
        assert not first.tidy(lambda at, each: True)
        with pytest.raises(BadFile, match="another `orchestrator run` writes it"), Outcomes(first.path):
            pass
        first.append([told(3)])
        assert [each["custom_id"] for _, each in first] == ["c1", "c2", "c3"]


def test_outcomes_that_cannot_be_written_are_told_with_the_reason(tmp_path):
    with pytest.raises(BadFile, match="No such file"), Outcomes(str(tmp_path / "none" / "out.jsonl")):
        pass
    with pytest.raises(BadFile, match="No space left"), Outcomes(str(tmp_path / "out.jsonl")) as outcomes:
        os.close(outcomes._file)
        outcomes._file = os.open("/dev/full", os.O_RDWR)
        outcomes.append([told(1)])


@pytest.mark.parametrize("name", ["out.parquet", "out.jsonl.gz"])
def test_made_outcomes_are_read_without_a_trace_and_damaged_ones_are_told(name, tmp_path):
    path = tmp_path / name
    with Outcomes(str(path)) as outcomes:
        outcomes.append([told(1), told(2)])
        outcomes.finish()
    assert [each for _, each in Outcomes(str(path))] == [told(1), told(2)]
    path.write_bytes(path.read_bytes()[:-9])
    for read in (list, Outcomes.__enter__):
        with pytest.raises(BadFile, match="it is no outcome of `orchestrator run`"):
            read(Outcomes(str(path)))
    assert name in os.listdir(tmp_path)


def test_file_without_an_outcome_is_not_left_behind(tmp_path):
    with Outcomes(str(tmp_path / "out.jsonl")):
        pass
    assert not list(tmp_path.iterdir())
