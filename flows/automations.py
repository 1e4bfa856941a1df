"""Have Prefect send word when a night fails or does not happen: `python -m flows.automations`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final
from uuid import UUID

import httpx
import typer
import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.events import emit_event
from prefect.events.schemas.automations import Automation, AutomationCore
from prefect.exceptions import ObjectNotFound
from prefect.settings import get_current_settings
from pydantic import ValidationError

from crackmodel.cli.exits import run_command
from crackmodel.errors import SchedulerError, UsageError
from crackmodel.text import one_line

_SHIPPED: Final = Path(__file__).resolve().parent.parent / "deploy" / "automations"

_FIELDS: Final = frozenset({"name", "description", "trigger", "actions"})
"""What a file decides. Whether an automation is enabled is the operator's business."""

NotifyOption = Annotated[
    str,
    typer.Option(
        "--notify", metavar="TYPE/NAME", help="Notification block of Prefect's, such as slack-webhook/alerts."
    ),
]
FolderOption = Annotated[
    Path,
    typer.Option("--from", help="Folder with the automations' files.", show_default="deploy/automations"),
]


def apply(folder: Path, notify: str) -> dict[str, str]:
    """Make the server's automations those of a folder's files, each known by its name.

    One that is as its file says is left alone: a change would reset its clock. Automations of other names are
    left alone too.

    Args:
        folder: Holds `*.yaml` in the form of `prefect automation create --from-file`; actions that send a
            notification name no block.
        notify: The block that all of them send to, `TYPE/NAME`.

    Returns:
        What became of each, by name: `created`, `updated` or `unchanged`.

    Raises:
        UsageError: The block does not exist, or a file is no automation.
        SchedulerError: No server answers.
    """
    url = get_current_settings().api.url
    if not url:
        raise UsageError(
            "PREFECT_API_URL is not set, and automations live in a server.",
            "Set it to the server's address, such as http://127.0.0.1:4200/api.",
        )
    try:
        with get_client(sync_client=True) as client:
            block = _block_id(client, notify)
            wanted = [_read(file, block) for file in sorted(folder.glob("*.yaml"))]
            done = {each.name: _put(client, each) for each in wanted}
    except httpx.HTTPError as error:
        raise SchedulerError(
            f"The Prefect server at {url} did not do it: {error}.",
            "Look whether it runs (`prefect version` asks it) and is of the version that is installed here.",
        ) from error
    if not done:
        raise UsageError(
            f"There is no automation in {folder}.",
            "Name the folder that holds their files with --from; in a checkout it is deploy/automations.",
        )
    if "created" in done.values():
        _start_the_clock()
    return done


def _start_the_clock() -> None:
    """Begin to wait for the first night: no event of a run can say that there was none yet."""
    emit_event(
        "crackmodel.automations.applied",
        resource={"prefect.resource.id": "crackmodel.automations"},
        related=[
            {
                "prefect.resource.id": "crackmodel.flow.nightly",
                "prefect.resource.role": "flow",
                "prefect.resource.name": "nightly",
            }
        ],
    )


def _block_id(client: SyncPrefectClient, reference: str) -> UUID:
    kind, _, name = reference.partition("/")
    try:
        return client.read_block_document_by_name(name, kind).id
    except ObjectNotFound:
        raise UsageError(
            f"There is no block {reference} on the server.",
            "Make one on the page Blocks, and name it TYPE/NAME as `prefect block ls` shows it.",
        ) from None


def _read(file: Path, block: UUID) -> AutomationCore:
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
        content["actions"] = [_with_block(action, block) for action in content["actions"]]
        return AutomationCore.model_validate(content)
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValidationError) as error:
        raise UsageError(
            f"{file} is no automation: {one_line(error, 300)}.", "Compare it with the files that ship."
        ) from error


def _with_block(action: dict[str, Any], block: UUID) -> dict[str, Any]:
    return action | {"block_document_id": block} if action["type"] == "send-notification" else action


def _put(client: SyncPrefectClient, wanted: AutomationCore) -> str:
    there: list[Automation] = client.read_automations_by_name(wanted.name)
    if not there:
        client.create_automation(wanted)
        return "created"
    if there[0].model_dump(include=set(_FIELDS)) == wanted.model_dump(include=set(_FIELDS)):
        return "unchanged"
    client.update_automation(there[0].id, wanted.model_copy(update={"enabled": there[0].enabled}))
    return "updated"


def main(notify: NotifyOption, folder: FolderOption = _SHIPPED) -> None:
    """Apply the automations that ship, or a folder's own, to the Prefect server; safe to repeat.

    Example: `python -m flows.automations --notify slack-webhook/alerts`
    """
    for name, what in apply(folder, notify).items():
        typer.echo(f"{what:9}  {name}")


if __name__ == "__main__":
    run_command(main)
