"""The Compose file: by its published schema, and by what it promises."""

from __future__ import annotations

import re
import subprocess
from typing import Any

import jsonschema
import pytest
from check_jsonschema.builtin_schemas import get_builtin_schema

from tests.deploy.manifests import DEPLOY, compose

_VALUES = {"CRACKMODEL_SURVEYS": "/srv/surveys"}


@pytest.fixture
def services() -> dict[str, Any]:
    found: dict[str, Any] = compose(_VALUES)["services"]
    return found


def test_compose_s_own_schema_accepts_it() -> None:
    schema = get_builtin_schema("vendor.compose-spec")
    validator = jsonschema.validators.validator_for(schema)(schema)

    validator.validate(compose(_VALUES))
    with pytest.raises(jsonschema.ValidationError):
        validator.validate({"services": {"ray-head": {"imagee": "crackmodel"}}})


def test_compose_itself_accepts_it() -> None:
    command = ["docker", "compose", "--project-directory", str(DEPLOY / "compose")]
    try:
        if subprocess.run([*command, "version"], capture_output=True, check=False).returncode:
            pytest.skip("docker has no Compose here")
    except FileNotFoundError:
        pytest.skip("there is no docker here")
    subprocess.run(
        [*command, "--env-file", "example.env", "config", "--quiet"], check=True, cwd=DEPLOY / "compose"
    )


def test_nothing_is_published_beyond_this_machine(services: dict[str, Any]) -> None:
    published = [port for service in services.values() for port in service.get("ports", ())]

    assert len(published) == 2
    assert all(port.startswith("127.0.0.1:") for port in published)
    assert not any("network_mode" in service for service in services.values())


def test_only_prefect_s_server_reaches_the_database(services: dict[str, Any]) -> None:
    reached = {name for name, service in services.items() if "database" in service["networks"]}

    assert reached == {"postgres", "prefect-server"}
    assert compose()["networks"]["database"] == {"internal": True}
    # A Ray node runs what jobs bring along, and must not start flows.
    assert {
        name for name, service in services.items() if {"prefect", "cluster"} <= set(service["networks"])
    } == {"prefect-worker"}


def test_no_service_runs_as_root_or_writes_into_its_image(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["deploy"]["resources"]["limits"]["memory"], name
        if name != "postgres":
            assert service["user"] == "10001:10001", name


def test_every_service_waits_for_what_it_needs(services: dict[str, Any]) -> None:
    for name, service in services.items():
        for needed, how in service.get("depends_on", {}).items():
            if how["condition"] == "service_healthy":
                assert "test" in services[needed]["healthcheck"], f"{name} waits for {needed} for ever"
            else:
                assert how["condition"] == "service_completed_successfully"
                assert services[needed]["restart"].startswith("on-failure"), f"{needed} never ends"
    assert all("healthcheck" in service for name, service in services.items() if name != "prefect-deploy")


def test_runs_are_asked_to_end_before_their_worker(services: dict[str, Any]) -> None:
    worker = services["prefect-worker"]

    assert worker["pre_stop"] == [{"command": ["python", "-m", "flows.serving.stop_runs", "1"]}]


def test_secrets_are_files(services: dict[str, Any]) -> None:
    secrets = compose()["secrets"]

    assert all(set(secret) == {"file"} for secret in secrets.values())
    for name, service in services.items():
        assert set(service.get("secrets", ())) <= set(secrets), name
        for variable, value in service.get("environment", {}).items():
            if any(word in variable for word in ("PASSWORD", "TOKEN", "SECRET", "AUTH")):
                assert value.startswith("/run/secrets/"), f"{name} has {variable} in its environment"


def test_the_example_sets_every_variable() -> None:
    text = (DEPLOY / "compose" / "compose.yaml").read_text()
    example = (DEPLOY / "compose" / "example.env").read_text()
    named = set(re.findall(r"\$\{(\w+)", text))

    assert named
    assert not {name for name in named if f"{name}=" not in example}
