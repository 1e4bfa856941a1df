"""Score every survey below a root on a schedule, on one machine: `python -m flows.serve ROOT`."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from contextlib import suppress
from subprocess import Popen
from typing import Annotated, Any, Final

import typer
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterName,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy, StateType
from prefect.client.schemas.schedules import CronSchedule
from prefect.deployments.runner import RunnerDeployment
from prefect.exceptions import ObjectNotFound
from prefect.runner import Runner
from prefect.states import Crashed
from prefect.types.entrypoint import EntrypointType
from pydantic import ValidationError

from crackmodel.cli.exits import run_command
from crackmodel.cli.options import RootArgument, with_options
from crackmodel.errors import SchedulerError, SurveyError, UsageError
from crackmodel.scoring.own_folders import own_folders
from crackmodel.settings import NightlySettings
from crackmodel.storage.location import Location
from crackmodel.surveys.discovery import find_surveys
from crackmodel.text import printable
from flows.nightly import nightly
from flows.serving.own_server import scheduling_server
from flows.serving.stop_runs import drain, runs_of

DEPLOYMENT: Final = "one-machine"

_POLL_SECONDS: Final = 0.5

_COMMIT_SECONDS: Final = 30.0
"""How long an interrupted run may take to commit what is scored."""

_ALERT_SECONDS: Final = 5.0
"""How long the server has, before it ends, to send the alert of an interrupted run."""

_UNFINISHED: Final = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")

DeploymentOption = Annotated[
    str, typer.Option("--name", help="Name of the deployment; two that share a server need two.")
]
CronOption = Annotated[
    str, typer.Option("--cron", help="When to score: minute, hour, day, month, day of the week.")
]
TimezoneOption = Annotated[
    str, typer.Option("--timezone", help="Whose clock that is, by its IANA name, such as Europe/Berlin.")
]


def plan(cron: str, timezone: str, parameters: dict[str, Any], name: str = DEPLOYMENT) -> RunnerDeployment:
    """Make the deployment of the nightly flow, at most one run at a time.

    Runs that are due meanwhile are dropped, not queued.

    Args:
        cron: When.
        timezone: IANA name of the time zone that `cron` is in.
        parameters: Those of the flow `nightly`.
        name: The deployment's.

    Raises:
        UsageError: The schedule or the time zone does not exist, or the name cannot be one.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot name a deployment.", "Give --name letters, digits, and - . or _ between them."
        )
    try:
        schedule = CronSchedule(cron=cron, timezone=timezone)
    except ValidationError as error:
        (wrong, *_), given = (error.errors()[0][part] for part in ("loc", "input"))
        raise UsageError(
            f"{wrong}={given!r} cannot be used.",
            'Write --cron "0 2 * * *" for every night at two, and --timezone as in Europe/Berlin or UTC.',
        ) from error
    return RunnerDeployment.from_flow(
        nightly,
        name,
        schedules=[schedule],
        parameters=parameters,
        concurrency_limit=ConcurrencyLimitConfig(
            limit=1, collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW
        ),
        tags=["crackmodel", "nightly"],
        entrypoint_type=EntrypointType.MODULE_PATH,  # from whichever folder this is started
    )


def keep_paused(deployment: RunnerDeployment, *, alone: bool) -> None:
    """Keep a deployment paused that is paused on the server.

    Args:
        deployment: The one that is going to replace it.
        alone: Whether nobody else uses the server; then root and report may have changed.

    Raises:
        UsageError: The server's deployment of that name has another root or report.
    """
    with get_client(sync_client=True) as client:
        try:
            there = client.read_deployment_by_name(deployment.full_name)
        except ObjectNotFound:
            return
    for place in () if alone else ("root", "report"):
        if (theirs := there.parameters.get(place)) != deployment.parameters.get(place):
            raise UsageError(
                f"The server has a deployment {deployment.full_name} with another {place}, "
                f"{printable(str(theirs))}; to replace it would end its nights.",
                "Choose another name with --name. If that one is no longer served, "
                f"`prefect deployment delete {deployment.full_name}` makes room.",
            )
    deployment.paused = there.paused
    for schedule in deployment.schedules or ():
        schedule.active = all(each.active for each in there.schedules)


def end_interrupted_runs(name: str = DEPLOYMENT) -> None:
    """Mark runs as crashed that a power cut or a kill has interrupted.

    Only for a server of this process alone, where nothing runs yet.
    """
    state = FlowRunFilterState(type=FlowRunFilterStateType(any_=_UNFINISHED))
    with get_client(sync_client=True) as client:
        for run in client.read_flow_runs(
            flow_run_filter=FlowRunFilter(state=state),
            deployment_filter=DeploymentFilter(name=DeploymentFilterName(any_=[name])),
        ):
            message = (
                "The machine or the service stopped in the middle of it. The next run goes on from there."
            )
            client.set_flow_run_state(run.id, Crashed(message=message), force=True)


@with_options
def main(
    root: RootArgument,
    settings: NightlySettings,
    cron: CronOption = "0 2 * * *",
    timezone: TimezoneOption = "UTC",
    name: DeploymentOption = DEPLOYMENT,
) -> None:
    """Score every survey below a folder every night, for as long as this command runs.

    Without PREFECT_API_URL it runs a Prefect server of its own, on loopback.

    Example: `python -m flows.serve photos --report report --cron "0 2 * * *" --timezone Europe/Berlin`
    """
    _require_surveys(root, settings)
    places = {
        "root": Location.parse(root).uri,
        "report": Location.parse(settings.report).uri,
        "models": Location.parse(settings.models).uri,
    }
    deployment = plan(cron, timezone, settings.given() | places, name)
    # Ctrl-C while the server starts is an end like any other.
    with suppress(KeyboardInterrupt), scheduling_server() as server:
        keep_paused(deployment, alone=server is not None)
        if server:
            end_interrupted_runs(name)
        print(_announced(deployment, f"{cron} ({timezone})"), file=sys.stderr)
        asyncio.run(_serve(deployment, server))


def _announced(deployment: RunnerDeployment, when: str) -> str:
    root, report = (deployment.parameters[place] for place in ("root", "report"))
    schedules = deployment.schedules or ()
    paused = deployment.paused or not all(schedule.active for schedule in schedules)
    return f"Scores {root} at {when} into {report}{', but is paused' if paused else ''}."


async def _serve(deployment: RunnerDeployment, server: Popen[bytes] | None) -> None:
    """Start runs when they are due, until SIGTERM or Ctrl-C; then end the current one in order.

    Raises:
        SchedulerError: The server is gone.
    """
    runner = Runner(pause_on_shutdown=False)  # paused schedules would stay so after a reboot
    stop = asyncio.Event()
    serving = asyncio.create_task(_run(runner, deployment, stop))
    # The runner does not notice that its server is gone.
    while not serving.done() and not (server and server.poll() is not None):
        if stop.is_set() and runner.started:
            # The runner would make the run `Cancelled`, which sends no alert.
            if runs_of(os.getpid()):
                await asyncio.to_thread(drain, os.getpid(), _COMMIT_SECONDS)
                await asyncio.sleep(_ALERT_SECONDS)
            await runner.astop()
            await serving
            return
        await asyncio.sleep(_POLL_SECONDS)
    cause = serving.exception() if serving.done() and not serving.cancelled() else None
    # The runner kills a run at once. Asked to end before, the run commits what is scored.
    await asyncio.to_thread(drain, os.getpid(), _COMMIT_SECONDS)
    serving.cancel()
    await asyncio.wait([serving])
    raise SchedulerError(
        f"The Prefect server has ended or stopped answering{_in_words(cause)}.",
        "What is done is kept. Start this command again, or let systemd do it: docs/scheduling.md.",
    ) from cause


async def _run(runner: Runner, deployment: RunnerDeployment, stop: asyncio.Event) -> None:
    await runner.aadd_deployment(deployment)
    running = asyncio.create_task(runner.start())
    # The runner sets a handler of its own, which exits without waiting for the run.
    await asyncio.sleep(0)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await running


def _in_words(error: BaseException | None) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f": {type(error).__name__}: {' '.join(str(error).split())[:300]}".rstrip(": .") if error else ""


def _require_surveys(root: str, settings: NightlySettings) -> None:
    """Check that there is something to score.

    Raises:
        UsageError: The root's address makes no sense.
        SurveyError: It holds no surveys, or its roster makes no sense. Not a wrong command: systemd starts it
            again until the folder is mended.
    """
    place, apart = Location.parse(root), own_folders(settings)
    try:
        find_surveys(place, apart=apart)
    except UsageError as error:
        raise SurveyError(error.problem, error.remedy) from error


if __name__ == "__main__":
    run_command(main)
