"""The automations that ship, in a real server: each is there once, and each sends word when it should."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import pytest

from crackmodel.errors import SchedulerError, UsageError
from crackmodel.surveys.sample import SampleSurvey
from tests.prefect_server import PrefectServer, until

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

pytestmark = pytest.mark.integration

_CHECKOUT = Path(__file__).resolve().parent.parent.parent
_SHIPPED = _CHECKOUT / "deploy" / "automations"
_NAMES = {
    "crackmodel: night failed",
    "crackmodel: night missing",
    "crackmodel: night does not start",
    "crackmodel: too many rejected",
    "crackmodel: zombie",
}

_HANGING_NIGHT = """
import time
from prefect import flow, runtime

@flow(name="nightly")
def nightly():
    print(runtime.flow_run.id, flush=True)
    time.sleep(600)

nightly()
"""


@dataclass
class Mailbox:
    """A notification block whose messages end here."""

    block: str
    messages: list[dict[str, str]] = field(default_factory=list)

    def about(self, words: str) -> list[str]:
        return [message["body"] for message in list(self.messages) if words in message["subject"]]


@pytest.fixture(scope="module")
def mailbox(prefect_server: PrefectServer) -> Iterator[Mailbox]:
    from prefect.blocks.notifications import CustomWebhookNotificationBlock

    box = Mailbox("custom-webhook/mailbox")

    class Receive(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            box.messages.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Receive) as http, prefect_server.client() as client:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        CustomWebhookNotificationBlock(
            name="mailbox",
            url=f"http://127.0.0.1:{http.server_port}/",
            json_data={"subject": "{{subject}}", "body": "{{body}}"},
        ).save("mailbox", overwrite=True)
        try:
            yield box
        finally:
            for automation in client.read_automations():
                if automation.name in _NAMES:  # they would listen to the runs of other tests
                    client.delete_automation(automation.id)
            http.shutdown()


@pytest.fixture
def impatient(tmp_path: Path) -> Path:
    """The shipped files, but what is waited for minutes or a day is waited for ten seconds."""
    folder = shutil.copytree(_SHIPPED, tmp_path / "automations")
    for file in folder.iterdir():
        file.write_text(re.sub(r"within: [1-9]\d+", "within: 10", file.read_text()))
    return folder


def test_the_command_makes_each_once_and_changes_only_what_has_changed(
    prefect_server: PrefectServer, mailbox: Mailbox, impatient: Path
) -> None:
    from flows.automations import apply

    done = subprocess.run(
        [sys.executable, "-m", "flows.automations", "--notify", mailbox.block],
        cwd=_CHECKOUT, env=prefect_server.environment(),
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert {line.split("  ", 1)[1].strip() for line in done.stdout.splitlines()} == _NAMES

    with prefect_server.client() as client:
        before = {each.name: each.id for each in client.read_automations() if each.name in _NAMES}
        assert apply(_SHIPPED, mailbox.block) == dict.fromkeys(_NAMES, "unchanged")
        client.pause_automation(before["crackmodel: zombie"])
        for file in ("night-failed.yaml", "too-many-rejected.yaml"):
            (impatient / file).unlink()
        assert set(apply(impatient, mailbox.block).values()) == {"updated"}
        after = [each for each in client.read_automations() if each.name in _NAMES]
        assert {each.name: each.id for each in after} == before
        assert [each.name for each in after if not each.enabled] == ["crackmodel: zombie"]
        for automation in after:
            client.delete_automation(automation.id)


def test_what_a_night_does_wrong_is_told(
    prefect_server: PrefectServer, mailbox: Mailbox, impatient: Path, sample: SampleSurvey, tmp_path: Path
) -> None:
    from prefect.states import Scheduled

    from flows.automations import apply

    (tmp_path / "surveys" / "deck").mkdir(parents=True)
    shutil.copy(sample.directory / sample.cracked[0], tmp_path / "surveys" / "deck")
    (tmp_path / "surveys" / "deck" / "notes.jpg").write_text("no picture")
    zombies = tmp_path / "zombies"
    zombies.mkdir()
    (impatient / "zombie.yaml").rename(zombies / "zombie.yaml")

    with prefect_server.client() as client:
        apply(impatient, mailbox.block)
        deployment = client.create_deployment(client.create_flow_from_name("nightly"), "nobody-takes-it")
        client.create_flow_run_from_deployment(deployment, state=Scheduled())
        night = subprocess.run(
            [
                sys.executable, "-m", "flows.nightly", tmp_path / "surveys", "--report", tmp_path / "report",
                "--workers", "0", "--max-rejected", "0",
            ],
            cwd=_CHECKOUT, env=prefect_server.environment(),
            capture_output=True, text=True, timeout=200, check=False,
        )  # fmt: skip
        assert night.returncode == 1, night.stderr
        (failed,) = until(lambda: mailbox.about("the night is Failed"), seconds=60)
        assert "deck (too many rejected)" in failed
        (rejected,) = until(lambda: mailbox.about("too many rejected images in deck"), seconds=60)
        assert "1 of 2 files" in rejected
        assert "1 x mislabelled" in rejected
        assert f"Flow run nightly {tmp_path}" in rejected
        until(lambda: mailbox.about("does not start"), seconds=60)
        until(lambda: mailbox.about("no nightly run"), seconds=60)
        client.delete_deployment(deployment)

        apply(zombies, mailbox.block)
        zombie = subprocess.Popen(
            [sys.executable, "-c", _HANGING_NIGHT], env=prefect_server.environment(), stdout=subprocess.PIPE
        )
        assert zombie.stdout
        try:
            run = zombie.stdout.readline().decode().strip()
            until(lambda: _has_said_that_it_lives(client, run), seconds=60)
        finally:
            zombie.send_signal(signal.SIGKILL)
            zombie.wait()
        (crashed,) = until(lambda: mailbox.about("the night is Crashed"), seconds=90)
        assert "not been heard of" in crashed
        assert client.read_flow_run(UUID(run)).state.is_crashed()


def test_a_block_that_is_not_there_and_a_broken_file_are_named(
    prefect_server: PrefectServer, mailbox: Mailbox, tmp_path: Path
) -> None:
    from flows.automations import apply

    (tmp_path / "mine.yaml").write_text("name: mine\ntrigger: {type: event}\nactions: [{type: unheard-of}]\n")
    with prefect_server.client():
        with pytest.raises(UsageError, match="no block slack-webhook/nowhere"):
            apply(_SHIPPED, "slack-webhook/nowhere")
        with pytest.raises(UsageError, match=r"mine\.yaml is no automation"):
            apply(tmp_path, mailbox.block)
        with pytest.raises(UsageError, match=r"no automation in .*--from"):
            apply(tmp_path / "nowhere", mailbox.block)


def test_no_server_is_said_so() -> None:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from flows.automations import apply

    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}), pytest.raises(SchedulerError):
        apply(_SHIPPED, "custom-webhook/mailbox")
    with temporary_settings(restore_defaults={PREFECT_API_URL}), pytest.raises(UsageError, match="not set"):
        apply(_SHIPPED, "custom-webhook/mailbox")


def _has_said_that_it_lives(client: SyncPrefectClient, run: str) -> bool:
    wanted = {
        "event": {"name": ["prefect.flow-run.heartbeat"]},
        "resource": {"id": [f"prefect.flow-run.{run}"]},
    }
    return bool(client.request("POST", "/events/filter", json={"filter": wanted}).json()["events"])
