"""The local stack: a real Valkey, real processes, real signals."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from orchestrator.local import (
    Commands,
    EmbeddedServer,
    FolderInUse,
    LocalError,
    NotReady,
    ProcessEnded,
    Processes,
    ServerNotFound,
    Stack,
    StackOptions,
    find_or_start,
    free_port,
)
from orchestrator.local.binary import find_binary
from orchestrator.local.files import private_folder, secret_kept_in
from orchestrator.local.guard import Guard
from orchestrator.local.guard_process import watch
from orchestrator.local.processes import http_answers
from orchestrator.local.valkey import answers
from tests.stack_kit import eventually

ROOT = Path(__file__).parents[1]
PROC = Path("/proc")  # not on macOS; small Linux images have no `ps`
SLEEPER = (sys.executable, "-c", "import time; print('awake', flush=True); time.sleep(600)")
STUBBORN = (
    *(sys.executable, "-c"),
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('awake', flush=True);"
    "time.sleep(600)",
)
# A server with a child of its own, as gunicorn and Celery have them; prints the child's pid.
PARENT = (
    *(sys.executable, "-c"),
    "import subprocess, sys, time; child = subprocess.Popen(['sleep', '600']);"
    "print('child', child.pid, flush=True); time.sleep(600)",
)
REACHING_OUT = ("DEBUG SLEEP 0", "MODULE LOAD /x.so", "CONFIG REWRITE", "CONFIG SET dir /")
# Answers every GET, and says in its log what it was started with.
STAND_IN = (
    *(sys.executable, "-c"),
    "import http.server, os, sys\n"
    "class Answer(http.server.BaseHTTPRequestHandler):\n"
    "    def do_GET(self): self.send_response(204); self.end_headers()\n"
    "print(*sorted(name for name in os.environ if name.startswith(('ORCH', 'FLOWER'))), flush=True)\n"
    "http.server.HTTPServer(('127.0.0.1', int(sys.argv[1])), Answer).serve_forever()",
    "{port}",
)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedServer]:
    with EmbeddedServer.start(tmp_path / "valkey") as started:
        yield started


@pytest.fixture
def client(server: EmbeddedServer) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(server.url, decode_responses=True) as connected:
        yield connected


@pytest.fixture
def processes() -> Iterator[Processes]:
    with Processes() as group:
        yield group


def command_line(pid: int) -> str:
    if PROC.exists():
        return (PROC / str(pid) / "cmdline").read_text()
    return subprocess.run(["ps", "-o", "args=", "-p", str(pid)], capture_output=True, text=True).stdout


def is_running(pid: int) -> bool:
    """Whether a process runs; one that only waits to be collected does not."""
    try:
        os.kill(pid, 0)
        return not PROC.exists() or ") Z " not in (PROC / str(pid) / "stat").read_text()
    except (ProcessLookupError, FileNotFoundError):
        return False


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def start(processes: Processes, name: str, argv: tuple[str, ...], folder: Path, word: str = "awake") -> Path:
    log = folder / f"{name}.log"
    environ = {"PATH": os.environ["PATH"]}
    processes.start(name, argv, env=environ, cwd=folder, log=log, ready=lambda: word in log.read_text())
    return log


def owner(script: str, *arguments: str | Path) -> subprocess.Popen[str]:
    """Another Python process; its script prints one line and then waits."""
    argv = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def killed(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


# The embedded server


def test_server_refuses_whoever_has_no_password(server: EmbeddedServer) -> None:
    once = Retry(NoBackoff(), 0)
    with redis.Redis(port=server.port, retry=once) as stranger, pytest.raises(redis.AuthenticationError):
        stranger.ping()
    assert not answers(f"redis://127.0.0.1:{server.port}/0")
    assert not answers(f"redis://:wrong@127.0.0.1:{server.port}/0")
    assert answers(server.url)


def test_server_never_throws_data_away(client: redis.Redis) -> None:
    settings = client.config_get("append*", "maxmemory-policy", "save")
    assert settings["appendonly"] == "yes"
    assert settings["appendfsync"] == "everysec"
    assert settings["maxmemory-policy"] == "noeviction"
    assert settings["save"] == ""


def test_record_with_a_long_prompt_is_kept_in_one_piece(client: redis.Redis) -> None:
    client.hset("record", mapping={"state": "queued", "parameters": "a quiet harbour, " * 50})
    assert client.object("encoding", "record") == "listpack"


@pytest.mark.parametrize("command", REACHING_OUT)
def test_server_refuses_commands_that_reach_beyond_its_data(client: redis.Redis, command: str) -> None:
    with pytest.raises(redis.ResponseError):
        client.execute_command(*command.split())


def test_server_listens_on_this_machine_only(client: redis.Redis) -> None:
    assert client.config_get("bind")["bind"] == "127.0.0.1"


def test_files_of_the_server_are_its_owners_alone(tmp_path: Path) -> None:
    _, server = find_or_start(tmp_path / "valkey")
    assert server is not None
    with server:
        assert mode(server.folder) == 0o700
        assert mode(server.folder / "valkey.conf") == 0o600
        assert mode(server.folder / "redis.url") == 0o600
        assert mode(server.folder / "valkey.log") == 0o600


def test_password_of_the_server_shows_nowhere(server: EmbeddedServer) -> None:
    password = server.url.split(":")[2].partition("@")[0]
    assert password not in repr(server)
    assert password not in command_line(server.pid)
    assert password not in (server.folder / "valkey.log").read_text()


def test_data_survive_a_new_server_in_the_same_folder(tmp_path: Path) -> None:
    for expected in (1, 2):
        with EmbeddedServer.start(tmp_path / 'a folder\'s "name"') as server:
            with redis.Redis.from_url(server.url) as client:
                assert client.incr("started") == expected


def test_restart_after_a_kill_keeps_url_and_data(server: EmbeddedServer, client: redis.Redis) -> None:
    client.set("kept", "yes")
    client.waitaof(1, 0, 5_000)
    server.kill()
    eventually(lambda: [ended.exit_code for ended in server.poll()] == [-signal.SIGKILL])
    server.restart()
    assert not server.poll()
    assert client.get("kept") == "yes"


def test_stopping_a_server_twice_is_harmless(tmp_path: Path) -> None:
    server = EmbeddedServer.start(tmp_path / "valkey")
    pid = server.pid
    server.stop()
    server.stop()
    assert not is_running(pid)


def test_two_processes_share_the_server_of_a_folder(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from orchestrator.local import find_or_start\n"
        "url, server = find_or_start(Path(sys.argv[1]))\n"
        "print(url, server is not None, flush=True); sys.stdin.read()\n"
        "if server: server.stop()"
    )
    owners = [owner(script, tmp_path / "valkey") for _ in range(2)]
    shown = [line_of(process).split() for process in owners]
    for process in owners:
        killed(process)
    assert shown[0][0] == shown[1][0]
    assert sorted(started for _, started in shown) == ["False", "True"]


def test_stale_url_in_the_folder_starts_a_new_server(tmp_path: Path) -> None:
    folder = private_folder(tmp_path / "valkey")
    (folder / "redis.url").write_text(f"redis://:gone@127.0.0.1:{free_port()}/0\n")
    url, server = find_or_start(folder)
    assert server is not None
    with server:
        assert answers(url)
        assert find_or_start(folder) == (url, None)


def test_second_server_on_the_same_data_is_refused(
    server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.local.valkey.FOLDER_SECONDS", 0.1)
    with pytest.raises(FolderInUse, match=r"server\.lock"):
        EmbeddedServer.start(server.folder)


def test_server_ends_when_its_owner_is_killed(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from orchestrator.local import EmbeddedServer\n"
        "server = EmbeddedServer.start(Path(sys.argv[1])); print(server.pid, flush=True); sys.stdin.read()"
    )
    process = owner(script, tmp_path / "valkey")
    pid = int(line_of(process))
    assert is_running(pid)
    killed(process)
    eventually(lambda: not is_running(pid))


def test_folder_of_others_is_not_closed_to_them(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "theirs").touch()
    with pytest.raises(LocalError, match="chmod 700"):
        private_folder(tmp_path)
    assert mode(tmp_path) == 0o755


def test_programs_on_path_that_do_not_run_or_are_too_old_are_passed_over(tmp_path: Path) -> None:
    texts = {"valkey-server": "exit 127", "redis-server": "echo Redis server v=6.2.16 sha=0"}
    for name, text in texts.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    assert find_binary(str(tmp_path)).path.parent != tmp_path
    (tmp_path / "redis-server").write_text("#!/bin/sh\necho Redis server v=7.0.7 sha=0\n")
    assert find_binary(str(tmp_path)).path == tmp_path / "redis-server"


def test_machine_without_a_server_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ServerNotFound, match="install `valkey` or `redis`"):
        find_binary("/nowhere")


def test_secret_key_stays_the_same(tmp_path: Path) -> None:
    path = tmp_path / "secret_key"
    assert secret_kept_in(path) == secret_kept_in(path)
    assert mode(path) == 0o600


# Processes


def test_start_waits_until_the_child_is_ready(processes: Processes, tmp_path: Path) -> None:
    log = start(processes, "sleeper", SLEEPER, tmp_path)
    assert "awake" in log.read_text()
    assert mode(log) == 0o600
    assert is_running(processes.pid("sleeper"))
    assert processes.poll() == []


def test_child_that_dies_while_starting_is_named_with_its_exit_code_and_last_words(
    processes: Processes, tmp_path: Path
) -> None:
    with pytest.raises(ProcessEnded, match=r"broken ended with exit code 3(.|\n)*no such flag"):
        start(processes, "broken", ("sh", "-c", "echo no such flag >&2; exit 3"), tmp_path)


def test_program_that_does_not_exist_is_reported_like_any_other_end(
    processes: Processes, tmp_path: Path
) -> None:
    with pytest.raises(ProcessEnded, match="/no/such/program") as raised:
        start(processes, "absent", ("/no/such/program",), tmp_path)
    assert raised.value.exit_code in (126, 127)


def test_child_that_is_never_ready_is_ended(processes: Processes, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with pytest.raises(NotReady, match=r"slow was not ready after 0\.3 s"):
        processes.start(
            *("slow", PARENT), env={}, cwd=tmp_path, log=log, ready=lambda: False, timeout_seconds=0.3
        )
    assert processes.poll() == []


def test_name_can_be_taken_once(processes: Processes, tmp_path: Path) -> None:
    start(processes, "sleeper", SLEEPER, tmp_path)
    with pytest.raises(LocalError, match="sleeper was started before"):
        start(processes, "sleeper", SLEEPER, tmp_path)


def test_children_are_stopped_in_reverse_order(tmp_path: Path) -> None:
    told = tmp_path / "told"
    script = f"trap 'echo $0 >>{told}; exit 0' TERM; echo awake; while :; do sleep 0.05; done"
    with Processes() as processes:
        for name in ("first", "second", "third"):
            start(processes, name, ("sh", "-c", script, name), tmp_path)
    processes.stop()
    assert told.read_text().split() == ["third", "second", "first"]


def test_child_that_ends_by_itself_is_reported_until_it_is_restarted(
    processes: Processes, tmp_path: Path
) -> None:
    start(processes, "sleeper", SLEEPER, tmp_path)
    processes.kill("sleeper")
    eventually(lambda: bool(processes.poll()))
    (ended,) = processes.poll()
    assert (ended.name, ended.exit_code, ended.log_tail) == ("sleeper", -signal.SIGKILL, "awake")
    processes.restart("sleeper")
    assert processes.poll() == []
    assert is_running(processes.pid("sleeper"))
    assert (tmp_path / "sleeper.log.1").read_text() == "awake\n"


def test_children_of_a_killed_child_go_with_it(processes: Processes, tmp_path: Path) -> None:
    log = start(processes, "parent", PARENT, tmp_path, word="child")
    grandchild = int(log.read_text().split()[1])
    processes.kill("parent")
    eventually(lambda: bool(processes.poll()))
    eventually(lambda: not is_running(grandchild))


def test_nothing_is_left_when_the_owner_is_killed(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from orchestrator.local import Processes\n"
        "folder, argv = Path(sys.argv[1]), sys.argv[2:]\n"
        "processes, log = Processes(), folder / 'log'\n"
        "processes.start('c', argv, env={}, cwd=folder, log=log, ready=lambda: 'child' in log.read_text())\n"
        "print(processes.pid('c'), flush=True); sys.stdin.read()"
    )
    process = owner(script, tmp_path, *PARENT)
    pids = [int(line_of(process)), int((tmp_path / "log").read_text().split()[1])]
    assert all(map(is_running, pids))
    killed(process)
    eventually(lambda: not any(map(is_running, pids)))


def test_child_that_ignores_the_request_to_end_is_killed_when_its_owner_is(tmp_path: Path) -> None:
    guard = Guard()
    with (tmp_path / "log").open("wb") as log:
        child = guard.spawn(STUBBORN, env={}, cwd=tmp_path, output=log.fileno())
    eventually(lambda: "awake" in (tmp_path / "log").read_text())
    guard.close()
    assert child.wait(30) == -signal.SIGKILL


def test_owner_killed_before_its_child_is_let_go_leaves_nothing(tmp_path: Path) -> None:
    script = (
        "import os, sys; from pathlib import Path; from orchestrator.local.guard import Guard\n"
        "class Halted(Guard):\n"
        "    def _register(self, child): print(child.pid, flush=True); sys.stdin.read()\n"
        "Halted().spawn(['touch', sys.argv[1]], env={}, cwd=Path('/'), output=2)"
    )
    process = owner(script, tmp_path / "ran")
    pid = int(line_of(process))
    assert is_running(pid)
    killed(process)
    eventually(lambda: not is_running(pid))
    assert not (tmp_path / "ran").exists()


def test_guard_that_was_killed_is_replaced_and_knows_the_earlier_children(tmp_path: Path) -> None:
    guard = Guard()
    with (tmp_path / "log").open("wb") as log:
        first = guard.spawn(SLEEPER, env={}, cwd=tmp_path, output=log.fileno())
        assert guard._helper is not None
        guard._helper.kill()
        guard._helper.wait()
        second = guard.spawn(SLEEPER, env={}, cwd=tmp_path, output=log.fileno())
    guard.close()
    assert first.wait(30) == second.wait(30) == -signal.SIGTERM


def test_guard_ignores_a_line_that_its_owner_could_not_finish() -> None:
    assert watch([b"+10\n", b"+11\n", b"-10\n", b"nonsense\n", b"+12"]) == {11}


# The stack


def options(tmp_path: Path, **changes: object) -> StackOptions:
    says = (sys.executable, "-c", "import time; print('ticker.started ready.', flush=True); time.sleep(600)")
    commands = Commands(
        simulator=STAND_IN, worker=says, ticker=says,
        receiver=STAND_IN, flower=STAND_IN, operations=STAND_IN,
    )  # fmt: skip
    environ = {"PATH": os.environ["PATH"], "ORCHESTRATOR_PUBLIC_URL": "https://elsewhere.example"}
    given: dict[str, object] = {"accounts": tmp_path / "accounts.toml", "artifacts": "none", "cwd": tmp_path}
    return StackOptions(**(given | {"environ": environ, "commands": commands} | changes))  # type: ignore[arg-type]


def test_stack_starts_everything_and_leaves_nothing(tmp_path: Path) -> None:
    with Stack(tmp_path / "stack", options(tmp_path, workers=2)) as stack:
        names = ("simulator", "worker", "worker-2", "ticker", "receiver", "flower", "operations")
        pids = [stack.processes.pid(name) for name in names]
        assert stack.server is not None
        pids.append(stack.server.pid)
        assert all(map(is_running, pids))
        assert stack.poll() == []
        for port in (stack.simulator_port, stack.receiver_port, stack.flower_port, stack.operations_port):
            assert http_answers(port, "/")
        assert answers(stack.redis_url)
    stack.stop()
    assert not any(map(is_running, pids))


def test_stack_does_not_build_on_the_server_of_another_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.local.valkey.OWNER_SECONDS", 0.1)
    stack = Stack(tmp_path / "stack", options(tmp_path))
    url, server = find_or_start(tmp_path / "stack")
    assert server is not None
    with server:
        with pytest.raises(FolderInUse, match="is `orchestrator up` running already"):
            stack.start()
        assert answers(url) and stack.processes.names() == []


def test_stack_waits_for_a_command_that_is_about_to_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.local.valkey.OWNER_SECONDS", 30.0)
    _, server = find_or_start(tmp_path / "stack")
    assert server is not None
    ending = threading.Timer(0.3, server.stop)
    ending.start()
    with Stack(tmp_path / "stack", options(tmp_path)) as stack:
        assert stack.server is not None and answers(stack.redis_url)
    ending.join()


def test_processes_of_the_stack_are_told_where_everything_is(tmp_path: Path) -> None:
    with Stack(tmp_path / "stack", options(tmp_path)) as stack:
        assert stack.environment == {
            "ORCHESTRATOR_REDIS_URL": stack.redis_url,
            "ORCHESTRATOR_SECRET_KEYS": (tmp_path / "stack" / "secret_key").read_text(),
            "ORCHESTRATOR_ACCOUNTS": str(tmp_path / "accounts.toml"),
            "ORCHESTRATOR_ARTIFACTS": "none",
            "ORCHESTRATOR_PUBLIC_URL": stack.receiver_url,
        }
        told = stack.log("receiver").read_text().splitlines()[0].split()
        assert told == sorted(stack.environment)
        for name in ("flower", "operations"):
            assert "FLOWER_BASIC_AUTH" in stack.log(name).read_text().split()


def test_stack_without_callbacks_has_no_public_url(tmp_path: Path) -> None:
    changes = {"callbacks": False, "flower": False, "simulator": False}
    with Stack(tmp_path / "stack", options(tmp_path, **changes)) as stack:
        assert "ORCHESTRATOR_PUBLIC_URL" not in stack.environment
        assert "ORCHESTRATOR_PUBLIC_URL" not in stack.log("receiver").read_text()
        assert stack.flower_url is stack.simulator_url is None


def test_secrets_of_the_stack_show_nowhere(tmp_path: Path) -> None:
    with Stack(tmp_path / "stack", options(tmp_path)) as stack:
        password = stack.redis_url.split(":")[2].partition("@")[0]
        key = stack.environment["ORCHESTRATOR_SECRET_KEYS"]
        names = ("simulator", "worker", "ticker", "receiver", "flower", "operations")
        shown = "".join(command_line(stack.processes.pid(name)) for name in names)
        shown += repr(stack) + repr(stack.options) + repr(stack.server)
    for secret in (password, key, stack.flower_login[1]):
        assert secret not in shown


def test_stack_restarts_its_server_under_the_same_url(tmp_path: Path) -> None:
    changes = {"flower": False, "simulator": False}
    with Stack(tmp_path / "stack", options(tmp_path, **changes)) as stack:
        stack.kill("valkey")
        eventually(lambda: [ended.name for ended in stack.poll()] == ["valkey"])
        stack.restart("valkey")
        assert stack.poll() == []
        assert answers(stack.redis_url)


def test_stack_with_one_broken_part_does_not_start_at_all(tmp_path: Path) -> None:
    commands = Commands(worker=("sh", "-c", "exit 1"), ticker=SLEEPER, receiver=SLEEPER)
    changes = {"commands": commands, "flower": False, "simulator": False}
    stack = Stack(tmp_path / "stack", options(tmp_path, **changes))
    with pytest.raises(ProcessEnded, match="worker ended with exit code 1"):
        stack.start()
    assert not answers(stack.redis_url)
