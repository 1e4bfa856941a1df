"""Nights on one machine: they start by themselves, one at a time, and survive what happens to machines."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from crackmodel import open_report, score_survey
from crackmodel.surveys.sample import SampleSurvey
from tests.prefect_server import clean_environment, client_of, descendants, free_port, stop, until

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun

pytestmark = pytest.mark.integration

_CHECKOUT = Path(__file__).resolve().parent.parent.parent
_EVERY_FIVE_SECONDS = "* * * * * */5"
_EVERY_NIGHT = "0 2 * * *"
_MANY = 3000


class Machine:
    """A machine on which nothing runs but `flows.serve`."""

    def __init__(self, folder: Path, root: Path) -> None:
        self.folder, self.root, self.port = folder, root, free_port()
        self.report = folder / "report"
        self.url = f"http://127.0.0.1:{self.port}/api"

    @contextmanager
    def serving(self, cron: str) -> Iterator[subprocess.Popen[bytes]]:
        """Run the command until the block ends."""
        settings = {"PREFECT_SERVER_API_PORT": str(self.port), "CRACKMODEL_SHARD_IMAGES": "20"}
        command = [
            sys.executable, "-m", "flows.serve", str(self.root), "--report", str(self.report),
            "--workers", "0", "--cron", cron, "--timezone", "Europe/Berlin",
        ]  # fmt: skip
        path = self.folder / f"{time.monotonic()}.log"
        with path.open("wb") as log:
            served = subprocess.Popen(
                command, cwd=_CHECKOUT, env=clean_environment(self.folder / "prefect") | settings,
                stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip
        try:
            until(lambda: b"Scores " in path.read_bytes() or served.poll() is not None, seconds=180)
            yield served
        except AssertionError as error:
            error.add_note(path.read_text(errors="replace")[-6000:])
            raise
        finally:
            stop(served)

    def runs(self, state: str = "") -> list[FlowRun]:
        """The runs that were due by now, in that order; those in one state, or all."""
        with client_of(self.url) as client:
            found = client.read_flow_runs(limit=200)
        due = [run for run in found if _due(run) <= time.time()]
        return sorted((run for run in due if state in ("", _state(run))), key=_due)

    def runs_planned(self) -> list[FlowRun]:
        """The runs to come, in that order."""
        with client_of(self.url) as client:
            return sorted(
                (run for run in client.read_flow_runs(limit=200) if _due(run) > time.time()), key=_due
            )

    def start_night(self) -> UUID:
        """Start a night by hand."""
        with client_of(self.url) as client:
            deployment = client.read_deployment_by_name("nightly/one-machine")
            return client.create_flow_run_from_deployment(deployment.id).id

    def state(self, run: UUID) -> tuple[str, str]:
        """State of a run, and what it says."""
        with client_of(self.url) as client:
            found = client.read_flow_run(run)
        return _state(found), str(found.state and found.state.message)

    def states_in_database(self) -> dict[UUID, str]:
        """States of the runs that ever began, or were dropped; when the server is gone."""
        asked = "select id, state_type from flow_run where state_type != 'SCHEDULED'"
        with closing(sqlite3.connect(self.folder / "prefect" / "prefect.db")) as database:
            return {UUID(run): state for run, state in database.execute(asked)}

    def missed_in_database(self) -> int:
        """How many runs are due and were not taken up; when the server is gone."""
        asked = "select count(*) from flow_run where state_type = 'SCHEDULED' and expected_start_time < ?"
        with closing(sqlite3.connect(self.folder / "prefect" / "prefect.db")) as database:
            return int(database.execute(asked, [f"{datetime.now(UTC):%F %T}"]).fetchone()[0])

    def rows(self) -> int:
        """Rows of the report; none if it is not there."""
        if not (self.report / "_delta_log").is_dir():
            return 0
        return int(open_report(self.report).sql("select count(*) as n from report").to_pandas()["n"][0])

    def is_silent(self) -> bool:
        """Whether nobody listens on the port of its Prefect server."""
        with socket.socket() as asked:
            return asked.connect_ex(("127.0.0.1", self.port)) != 0


def _state(run: FlowRun) -> str:
    return run.state.type.value if run.state else ""


def _due(run: FlowRun) -> float:
    return run.expected_start_time.timestamp() if run.expected_start_time else float("inf")


@dataclass(frozen=True)
class Nights:
    """What happened on a machine that began with a night every five seconds, and was then stopped."""

    machine: Machine
    completed: list[FlowRun]
    dropped: list[FlowRun]
    begun: set[UUID]
    exit_code: int


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory, sample: SampleSurvey) -> Nights:
    """One survey of one picture, so that a night is short."""
    folder = tmp_path_factory.mktemp("machine")
    survey = folder / "surveys" / "bridge-07"
    survey.mkdir(parents=True)
    shutil.copy(sample.directory / min(set(sample.files) - set(sample.rejected)), survey / "first.jpg")
    machine = Machine(folder, survey.parent)
    with machine.serving(_EVERY_FIVE_SECONDS) as served:
        until(lambda: len(machine.runs("COMPLETED")) >= 2, seconds=180)
        completed, dropped = machine.runs("COMPLETED"), machine.runs("CANCELLED")
    return Nights(machine, completed, dropped, set(machine.states_in_database()), served.returncode)


def test_nights_start_by_themselves_one_at_a_time_and_repeated_score_nothing(nights: Nights) -> None:
    first, second = nights.completed[:2]

    assert first.auto_scheduled
    assert first.end_time
    assert second.start_time
    assert first.end_time <= second.start_time
    assert nights.dropped
    assert all("concurrency limit" in str(run.state and run.state.message) for run in nights.dropped)
    rows = open_report(nights.machine.report).sql("select count(distinct run_id) as n from report")
    assert rows.to_pandas()["n"][0] == 1


def test_a_stopped_machine_makes_one_of_missed_nights_and_an_interrupted_one_loses_nothing(
    nights: Nights,
) -> None:
    machine = nights.machine
    assert nights.exit_code == 0
    assert machine.is_silent()
    (first,) = (machine.root / "bridge-07").iterdir()
    for number in range(_MANY):
        os.link(first, first.with_name(f"{number}.jpg"))

    # Runs come due while nobody is there. Those to come are replaced by one at two o'clock.
    until(lambda: machine.missed_in_database() > 1, seconds=60)
    with machine.serving(_EVERY_NIGHT) as served:
        until(lambda: machine.rows() > 1, seconds=180)
        (tonight, *_) = machine.runs_planned()
        missed = [run for run in machine.runs() if run.id not in nights.begun]
        for process in (served.pid, *descendants(served.pid)):  # a power cut
            os.kill(process, signal.SIGKILL)
    assert datetime.fromtimestamp(_due(tonight), ZoneInfo("Europe/Berlin")).hour == 2
    assert sorted(_state(run) for run in missed) == ["CANCELLED"] * (len(missed) - 1) + ["RUNNING"]
    assert len(missed) > 1
    (interrupted,) = (run.id for run in missed if _state(run) == "RUNNING")

    with machine.serving(_EVERY_NIGHT) as served:
        assert machine.state(interrupted)[0] == "CRASHED"
        assert "stopped in the middle" in machine.state(interrupted)[1]
        next_night, committed = machine.start_night(), machine.rows()
        until(lambda: machine.rows() > committed, seconds=180)
        served.send_signal(signal.SIGTERM)
        assert served.wait(60) == 0
    assert machine.is_silent()
    assert machine.states_in_database()[next_night] == "CRASHED"
    committed = machine.rows()
    assert 1 < committed < _MANY

    rest = score_survey(str(machine.root / "bridge-07"), report=str(machine.report), workers=0)
    assert rest.skipped == committed
    assert machine.rows() == _MANY + 1

    with machine.serving(_EVERY_NIGHT) as served:
        os.kill(descendants(served.pid)[0], signal.SIGKILL)  # its server; systemd starts both again
        assert served.wait(60) == 1


async def do_nothing() -> None:
    """What a part of a runner does that a test is not about."""


def serve_with(
    monkeypatch: pytest.MonkeyPatch,
    server: Any,
    *,
    add: Callable[[], Awaitable[None]] = do_nothing,
    start: Callable[[], Awaitable[None]] = do_nothing,
    stop: Callable[[], Awaitable[None]] = do_nothing,
) -> None:
    """Serve with a runner that does something else than to ask a server for work."""
    from flows import serve

    runner = SimpleNamespace(aadd_deployment=lambda _: add(), start=start, astop=stop, started=True)
    monkeypatch.setattr(serve, "Runner", lambda **_: runner)
    deployment: Any = None
    asyncio.run(serve._serve(deployment, server))


_NIGHT = """
import pathlib, signal, sys, time

folder = pathlib.Path(sys.argv[2])

def commit(*_):
    (folder / "committed").touch()
    sys.exit()

signal.signal(signal.SIGTERM, commit)
(folder / "scoring").touch()
time.sleep(600)
"""


def test_a_lost_server_ends_the_night_that_runs_in_order(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from crackmodel.errors import SchedulerError

    async def run_a_night() -> None:
        command = (sys.executable, "-c", _NIGHT, "prefect.engine", str(tmp_path))
        night = await asyncio.create_subprocess_exec(*command)
        try:
            await night.wait()
        finally:  # as Prefect's runner does
            if night.returncode is None:
                night.kill()
                await night.wait()

    server = SimpleNamespace(poll=lambda: 0 if (tmp_path / "scoring").exists() else None)
    with pytest.raises(SchedulerError, match=r"The Prefect server has ended or stopped answering\."):
        serve_with(monkeypatch, server, start=run_a_night)
    assert (tmp_path / "committed").exists()


def test_a_night_has_ended_by_itself_before_the_runner_may_cancel_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from flows import serve

    async def run_a_night() -> None:
        command = (sys.executable, "-c", _NIGHT, "prefect.engine", str(tmp_path))
        night = await asyncio.create_subprocess_exec(*command)
        await asyncio.to_thread(until, (tmp_path / "scoring").exists, seconds=60)
        os.kill(os.getpid(), signal.SIGTERM)
        await night.wait()

    async def cancel_what_runs() -> None:
        assert (tmp_path / "committed").exists()
        (tmp_path / "stopped").touch()

    monkeypatch.setattr(serve, "_ALERT_SECONDS", 0.1)
    serve_with(monkeypatch, None, start=run_a_night, stop=cancel_what_runs)
    assert (tmp_path / "stopped").exists()


@pytest.mark.timeout(60)
def test_a_server_that_dies_before_it_knows_the_schedule_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from crackmodel.errors import SchedulerError

    async def ask_for_ever() -> None:
        await asyncio.Event().wait()

    with pytest.raises(SchedulerError, match="The Prefect server has ended"):
        serve_with(monkeypatch, SimpleNamespace(poll=lambda: 0), add=ask_for_ever)


def test_what_stopped_the_runner_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from crackmodel.errors import SchedulerError

    refusal = ExceptionGroup("unhandled errors in a TaskGroup", [OSError("no\nroom left.")])

    async def refuse() -> None:
        raise refusal

    with pytest.raises(SchedulerError, match=r"stopped answering: OSError: no room left\. What") as caught:
        serve_with(monkeypatch, None, start=refuse)
    assert caught.value.__cause__ is refusal


def run_serve(**options: Any) -> None:
    """End as `python -m flows.serve` does."""
    from crackmodel.cli.exits import reported
    from flows.serve import main

    with reported():
        main(**options)


def test_a_roster_with_a_mistake_is_tried_again_until_it_is_mended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "surveys.toml").write_text("[[survey]]\nurl = 'bridge-07'\n")
    with pytest.raises(SystemExit) as ended:
        run_serve(root=str(tmp_path))

    assert ended.value.code == 1  # systemd starts it again, which it does not after a 2
    assert "url of survey 1" in capsys.readouterr().err


def test_every_option_reaches_the_night(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from crackmodel.errors import UsageError
    from flows import serve

    (tmp_path / "bridge-07").mkdir()
    nights: list[dict[str, Any]] = []

    def plan(cron: str, timezone: str, parameters: dict[str, Any], name: str) -> None:
        nights.append(parameters)
        raise UsageError("Enough is known.", "Go on with the next test.")

    monkeypatch.setattr(serve, "plan", plan)
    given: dict[str, Any] = {
        "model": "walls", "tile": 256, "overlap": 32, "engine": "tensorflow", "workers": 4,
        "gpus_per_task": 0.25, "limit": 5000, "since": "36h", "retry_rejected": True, "mark_missing": True,
        "max_rejected": 7, "rise": 0.4,
    }  # fmt: skip
    with pytest.raises(SystemExit):
        run_serve(root=str(tmp_path), report=str(tmp_path / "report"), models=str(tmp_path), **given)

    places = {"root": str(tmp_path), "report": str(tmp_path / "report"), "models": str(tmp_path)}
    assert nights == [places | given]


@pytest.mark.parametrize(
    ("options", "exit_code", "words"),
    [
        ({"cron": "at two"}, 2, "cron='at two'"),
        ({"timezone": "Europe/Bielefeld"}, 2, "timezone='Europe/Bielefeld'"),
        ({"name": "one/two"}, 2, "'one/two'"),
        ({"engine": "steam"}, 2, "engine='steam'"),
        ({"overlap": 227}, 2, "overlap=227"),
        ({"root": "nowhere"}, 1, "nowhere"),
        ({"root": "ftp://surveys"}, 2, "ftp://"),
    ],
)
def test_what_cannot_be_served_is_said_before_anything_starts(
    options: dict[str, Any],
    exit_code: int,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "bridge-07").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        run_serve(**({"root": str(tmp_path)} | options))

    assert ended.value.code == exit_code
    assert words in capsys.readouterr().err


def test_what_is_paused_stays_paused_when_the_command_starts_again(prefect: None) -> None:
    from prefect.client.orchestration import get_client

    from flows.serve import keep_paused, plan

    def start_again() -> Any:
        deployment = plan("0 3 * * *", "UTC", {"root": "/a", "report": "/r"}, "paused")
        keep_paused(deployment, alone=True)
        with get_client(sync_client=True) as client:
            return client.read_deployment(deployment.apply())

    first = start_again()
    assert [schedule.active for schedule in start_again().schedules] == [True]
    with get_client(sync_client=True) as client:
        (schedule,) = client.read_deployment(first.id).schedules
        client.update_deployment_schedule(first.id, schedule.id, active=False)
    again = start_again()
    assert [schedule.active for schedule in again.schedules] == [False]
    assert not again.paused
    with get_client(sync_client=True) as client:
        client.pause_deployment(first.id)
        client.update_deployment_schedule(first.id, again.schedules[0].id, active=True)
    last = start_again()
    assert last.paused
    assert [schedule.active for schedule in last.schedules] == [True]


def test_nobody_replaces_a_deployment_of_other_places_on_a_shared_server(prefect: None) -> None:
    from crackmodel.errors import UsageError
    from flows.serve import keep_paused, plan

    served = plan("0 2 * * *", "UTC", {"root": "/a", "report": "/r"}, "shared")
    keep_paused(served, alone=False)
    served.apply()
    keep_paused(plan("0 4 * * *", "UTC", {"root": "/a", "report": "/r"}, "shared"), alone=False)

    for places in ({"root": "/b", "report": "/r"}, {"root": "/a", "report": "/s"}):
        other = plan("0 2 * * *", "UTC", dict(places), "shared")
        with pytest.raises(UsageError, match=r"nightly/shared with another .*--name"):
            keep_paused(other, alone=False)
        keep_paused(other, alone=True)
        keep_paused(plan("0 2 * * *", "UTC", dict(places), "mine"), alone=False)


def test_two_commands_do_not_share_a_database(tmp_path: Path) -> None:
    from prefect.settings import PREFECT_API_URL, PREFECT_HOME, PREFECT_SERVER_API_PORT, temporary_settings

    from crackmodel.errors import SchedulerError
    from flows.serving import own_server

    settings = {PREFECT_HOME: tmp_path, PREFECT_SERVER_API_PORT: free_port()}
    with (
        temporary_settings(settings, restore_defaults={PREFECT_API_URL}),
        own_server._held(tmp_path),
        pytest.raises(SchedulerError, match=f"Another .*{tmp_path}.*PREFECT_HOME"),
        own_server.scheduling_server(),
    ):
        pass


def test_a_stop_before_the_server_is_there_is_a_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from flows import serve

    @contextmanager
    def starting() -> Iterator[None]:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)
        yield

    (tmp_path / "bridge-07").mkdir()
    monkeypatch.setattr(serve, "scheduling_server", starting)
    run_serve(root=str(tmp_path))


def test_a_taken_port_and_a_silent_server_are_said(tmp_path: Path) -> None:
    from prefect.settings import PREFECT_API_URL, PREFECT_HOME, PREFECT_SERVER_API_PORT, temporary_settings

    from crackmodel.errors import SchedulerError
    from flows.serving.own_server import scheduling_server

    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        taken = temporary_settings(
            {PREFECT_SERVER_API_PORT: port, PREFECT_HOME: tmp_path}, restore_defaults={PREFECT_API_URL}
        )
        with (
            taken,
            pytest.raises(SchedulerError, match=f"Port {port}.*PREFECT_SERVER_API_PORT"),
            scheduling_server(),
        ):
            pass
    with (
        temporary_settings({PREFECT_API_URL: f"http://127.0.0.1:{free_port()}/api"}),
        pytest.raises(SchedulerError, match="No Prefect server answers"),
        scheduling_server(),
    ):
        pass
