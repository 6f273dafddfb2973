"""`python -m tests.chaos`: ends with 1 where anything is off, and says how to run it again."""

from __future__ import annotations

import json
import secrets
import shutil
import signal
import tempfile
from pathlib import Path

import click
from rich.console import Console

from orchestrator.local.errors import LocalError
from tests.chaos.plan import draw
from tests.chaos.report import as_json, details, show
from tests.chaos.run import Pace, run

SHORT_JOBS, LONG_JOBS, LONG_MINUTES = 250, 2000, 10.0
SHORT = Pace(busy=14.0, deadline=16.0, patience=120.0)
SHORT_STORM = 18.0
BUSY_SHARE, STORM_SHARE = 0.38, 0.55  # of the minutes that a long run may take
DEADLINE_SECONDS = 30.0
WIDTH = 130


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--short", is_flag=True, help="A minute or two, with few jobs; Redis is only told to end.")
@click.option("--jobs", type=click.IntRange(20), help=f"[default: {LONG_JOBS}; short: {SHORT_JOBS}]")
@click.option("--seed", type=int, help="The same seed draws the same jobs and faults. [default: any]")
@click.option("--minutes", type=click.FloatRange(2), default=LONG_MINUTES, show_default=True)
@click.option(
    "--json", "file", type=click.Path(path_type=Path, dir_okay=False), help="Write the accounts here, too."
)
@click.option("--folder", type=click.Path(path_type=Path), help="A new folder, kept with all logs.")
def main(
    short: bool, jobs: int | None, seed: int | None, minutes: float, file: Path | None, folder: Path | None
) -> None:
    """Break everything at once, then account for every job and every payment."""
    signal.signal(signal.SIGTERM, _interrupt)  # so that the stack is ended
    if folder and folder.exists():
        raise click.ClickException(f"{folder} exists: name a new folder")
    console = Console(markup=False, highlight=False)
    console.width = max(console.width, WIDTH)  # a log has no width of its own
    seed = secrets.randbelow(1_000_000) if seed is None else seed
    place = folder or Path(tempfile.mkdtemp(prefix="chaos-"))
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    pace, storm = SHORT, SHORT_STORM
    if not short:
        storm = STORM_SHARE * minutes * 60
        pace = Pace(BUSY_SHARE * minutes * 60, DEADLINE_SECONDS, minutes * 60)
    plan = draw(seed, jobs or (SHORT_JOBS if short else LONG_JOBS), storm, hard=not short)
    console.print(f"Seed {seed}, {len(plan.wishes)} jobs, in {place}", soft_wrap=True)
    try:
        found = run(plan, pace, place, console)
    except LocalError as error:
        raise click.ClickException(f"seed {seed}, logs in {place / 'run'}: {error}") from None
    show(found, console)
    if file:
        file.write_text(json.dumps(as_json(found), indent=2) + "\n", encoding="utf-8")
    if not found.sound:
        (place / "off.txt").write_text("\n".join([*found.diary, *details(found)]) + "\n", encoding="utf-8")
        again = f"python -m tests.chaos {'--short ' if short else ''}--seed {seed}"
        console.print(f"Something is off. Logs, diary and details: {place}. Again: {again}", soft_wrap=True)
        raise SystemExit(1)
    console.print(f"All is accounted for, in {found.seconds:.0f} s.")
    if not folder:
        shutil.rmtree(place)


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main(prog_name="python -m tests.chaos")
