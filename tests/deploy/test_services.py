"""A night as the Compose file would run it: its commands, users, secrets, mounts and networks."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from crackmodel.reports.reading.query import open_report
from tests.deploy.container import Image, two_networks
from tests.deploy.manifests import DEPLOY, compose
from tests.deploy.services import HOSTS, VOLUMES, Services

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def services(image: Image, surveys: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """Everything but Postgres, healthy; the Ray worker is alone in its network."""
    if shutil.which("ip") is None:
        pytest.skip("two networks need iproute2's ip")
    folder = tmp_path_factory.mktemp("services")
    (folder / "hosts").write_text(HOSTS)
    (folder / "ray_token").write_text("0123456789abcdef" * 4)
    (folder / "postgres_password").write_text("not used")
    for volume in VOLUMES:
        (folder / volume).mkdir()
        os.chown(folder / volume, 10001, 10001)
    said = compose({"CRACKMODEL_SURVEYS": "/srv/surveys"})["services"]
    with two_networks() as networks:
        started = Services(image, said, networks, folder, surveys)
        with started.stopped_at_the_end():
            started.start("ray-head", "prefect-server")
            started.start("ray-worker")
            started.run("prefect-deploy")
            started.start("prefect-worker")
            yield started


def test_a_night_is_scored_by_the_ray_worker(services: Services) -> None:
    services.run("prefect-worker", ["prefect", "deployment", "run", "nightly/nightly", "--watch"])

    # The head has no CPU to score with: the worker read the photographs and wrote the report.
    report = open_report(services.folder / "data" / "report")
    (rows,) = report.sql("select survey, count(*) as images from latest group by 1").to_pylist()
    assert rows == {"survey": "deck", "images": sum(path.is_file() for path in services.surveys.rglob("*"))}
    assert "http://ray-head:8265" in services.log("prefect-worker")


def test_notifications_are_set_up_from_the_image(services: Services) -> None:
    block = (
        "from prefect.blocks.notifications import SlackWebhook; "
        "SlackWebhook(url='http://127.0.0.1:9/').save('alerts')"
    )
    services.run("prefect-worker", ["python", "-c", block])

    apply = "python -m flows.automations --from deploy/automations --notify slack-webhook/alerts"
    said = services.run("prefect-worker", apply.split())

    shipped = list((DEPLOY / "automations").glob("*.yaml"))
    assert shipped
    assert said.count("created ") == len(shipped)


def test_a_prometheus_in_the_network_gets_the_counters_of_every_node(services: Services) -> None:
    code = """
import time, urllib.request
for place in ("ray-head:8090", "10.0.0.2:8090"):
    text = ""
    for _ in range(60):
        text = urllib.request.urlopen(f"http://{place}/metrics", timeout=5).read().decode()
        if "ray_node_cpu_count" in text:
            break
        time.sleep(0.5)
    print(place, "ray_node_cpu_count" in text)
"""
    said = services.run("prefect-worker", ["python", "-c", code])

    assert said.splitlines() == ["ray-head:8090 True", "10.0.0.2:8090 True"]


def test_without_the_token_nobody_gives_ray_work(services: Services) -> None:
    code = """
import os, pathlib, urllib.error, urllib.request
token = pathlib.Path(os.environ["RAY_AUTH_TOKEN_PATH"]).read_text()
for headers in ({}, {"Authorization": "Bearer " + token[::-1]}, {"Authorization": "Bearer " + token}):
    request = urllib.request.Request(os.environ["RAY_ADDRESS"] + "/api/jobs/", headers=headers)
    try:
        print(urllib.request.urlopen(request, timeout=30).status)
    except urllib.error.HTTPError as error:
        print(error.code)
"""
    answers = services.run("prefect-worker", ["python", "-c", code]).split()

    # With none, and with another one (Ray's own: 401 and 403).
    assert answers == ["401", "403", "200"]
