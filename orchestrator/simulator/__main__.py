"""`python -m orchestrator.simulator`: the command line of the simulator."""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()  # before anything else that opens a socket is imported

import click  # noqa: E402

from orchestrator.simulator.options import Options, Seconds  # noqa: E402
from orchestrator.simulator.server import serve  # noqa: E402


def _read_seconds(context: click.Context, parameter: click.Parameter, value: str) -> Seconds:
    try:
        return Seconds.parse(value)
    except ValueError as error:
        raise click.BadParameter("give seconds (2.0), a span (5-15) or lognormal") from error


def _read_accounts(
    context: click.Context, parameter: click.Parameter, value: tuple[str, ...]
) -> dict[str, int]:
    accounts: dict[str, int] = {}
    for entry in value:
        email, _, most = entry.rpartition("=")
        if not email or not most.isdigit() or int(most) < 1:
            raise click.BadParameter(f"{entry!r} is not of the form email=maxJobs")
        accounts[email] = int(most)
    return accounts


def _read_secrets(
    context: click.Context, parameter: click.Parameter, value: tuple[str, ...]
) -> dict[str, str]:
    secrets: dict[str, str] = {}
    for entry in value:
        key, _, secret = entry.partition("=")
        if not key or not secret:
            raise click.BadParameter("an entry is not of the form KEY=SECRET")
        secrets[key] = secret
    return secrets


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), required=True, help="0 takes any free port.")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--seed", default=1, show_default=True, help="The same seed gives the same times and pictures.")
@click.option(
    "--scale", type=click.FloatRange(0, min_open=True), default=1.0, show_default=True,
    help="Factor for all simulated durations; 0.01 is 100 times faster.",
)  # fmt: skip
@click.option(
    "--seconds", default="lognormal", show_default=True, callback=_read_seconds,
    help="Time of one generation: fixed (2.0), uniform (5-15), or lognormal with a median of 12 s.",
)  # fmt: skip
@click.option("--max-jobs", type=click.IntRange(1), default=5, show_default=True, help="Of other accounts.")
@click.option("--account", "accounts", multiple=True, metavar="EMAIL=MAXJOBS", callback=_read_accounts)
@click.option("--progress", type=click.IntRange(0), default=2, show_default=True, help="Progress callbacks.")
@click.option(
    "--freepik-secret", "freepik_secrets", multiple=True, metavar="KEY=SECRET", callback=_read_secrets,
    help="Sign the callbacks of this Freepik API key with this secret.",
)  # fmt: skip
@click.option(
    "--runway-overflow", type=click.Choice(["queue", "refuse"]), default="queue", show_default=True,
    help="Beyond an account's limit the official API accepts and throttles; or answers 429, for comparison.",
)  # fmt: skip
def main(
    port: int, host: str, seed: int, scale: float, seconds: Seconds, max_jobs: int,
    accounts: dict[str, int], progress: int, freepik_secrets: dict[str, str],
    runway_overflow: str,
) -> None:  # fmt: skip
    """Stand in for the providers' APIs on a local port."""
    serve(
        Options(
            port, host, seed, scale, seconds, max_jobs, accounts, progress, freepik_secrets, runway_overflow
        )
    )  # fmt: skip


if __name__ == "__main__":
    main(prog_name="python -m orchestrator.simulator")
