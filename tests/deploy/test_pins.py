"""Everything that is deployed has one version, and it is the one that was tested."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from dockerfile_parse import DockerfileParser

from tests.deploy.manifests import CHECKOUT, DEPLOY, compose, kubernetes, locked, pod_templates

_VERSION = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["version"]
_OURS = {"crackmodel", "crackmodel-train", "crackmodel-gpu"}
_LOCKS = ("requirements-cluster.lock", "requirements-train.lock", "requirements-gpu.lock")


def _base_images() -> list[str]:
    return DockerfileParser(path=str(DEPLOY / "Dockerfile")).parent_images


def _images() -> Iterator[tuple[str, str]]:
    for base in _base_images():
        yield "Dockerfile", base
    for name, service in compose({"CRACKMODEL_SURVEYS": "/srv/surveys"})["services"].items():
        yield f"compose.yaml {name}", service["image"]
    for path, document in kubernetes():
        for template in pod_templates(document):
            for container in [*template["spec"]["containers"], *template["spec"].get("initContainers", ())]:
                yield f"{path.name} {container['name']}", container["image"]


def test_no_image_is_without_a_version() -> None:
    found = dict(_images())

    assert len(found) >= 12
    for where, image in found.items():
        name, _, tag = image.rpartition(":")
        assert re.search(r"[0-9]+\.[0-9]+", tag), f"{where}: {image} may be another one tomorrow"
        if name in _OURS:
            assert tag == _VERSION, f"{where}: {image} is not of this version"


def test_the_image_has_the_python_that_is_developed_with() -> None:
    assert {base.split(":")[0] for base in _base_images()} == {"python"}
    supported = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["tool"]["mypy"]["python_version"]
    assert {".".join(base.split(":")[1].split(".")[:2]) for base in _base_images()} == {supported}


def test_kustomize_gives_every_image_of_ours_this_version() -> None:
    customised = yaml.safe_load((DEPLOY / "kubernetes" / "kustomization.yaml").read_text())

    assert {entry["name"] for entry in customised["images"]} <= _OURS
    assert {entry["newTag"] for entry in customised["images"]} == {_VERSION}


@pytest.mark.parametrize("lock", _LOCKS)
def test_what_an_image_installs_is_what_the_tests_ran_with(lock: str) -> None:
    text = (DEPLOY / lock).read_text()
    pinned = dict(re.findall(r"^([a-z0-9._-]+)(?:\[[a-z0-9,-]+\])?==(\S+)", text, re.MULTILINE))
    tested = dict(
        re.findall(r"^([a-z0-9._-]+)==(\S+)", (CHECKOUT / "requirements.lock").read_text(), re.MULTILINE)
    )

    assert {"ray", "prefect", "aiohttp", "asyncpg", "uv"} <= set(pinned)
    assert ("tensorflow" in pinned) == (lock != "requirements-cluster.lock")
    assert not {"pytest", "moto", "mypy"} & set(pinned)
    differing = {name for name, version in pinned.items() if tested.get(name, version) != version}
    assert not differing
    unknown = {name for name in pinned if name not in tested}
    assert unknown == set() or (lock == "requirements-gpu.lock" and all("nvidia" in name for name in unknown))
    # A line that starts a requirement and has no hash would be installed unchecked.
    for block in re.split(r"\n(?=[a-z0-9])", text.split("\n", 2)[2]):
        assert "--hash=sha256:" in block, block.splitlines()[0]


def test_ray_is_the_same_wherever_it_is_named() -> None:
    ray = locked("ray")
    named: dict[str, Any] = {}
    for path, document in kubernetes():
        if document["kind"] == "RayCluster":
            named[path.name] = document["spec"]["rayVersion"]
        if document["kind"] == "RayJob":
            named[path.name] = document["spec"]["rayClusterSpec"]["rayVersion"]
    launcher = (DEPLOY / "ray" / "cluster.yaml").read_text()
    named["cluster.yaml"] = re.search(r"__version__ == '([^']+)'", launcher)[1]  # type: ignore[index]

    assert named == {"raycluster.yaml": ray, "train.yaml": ray, "cluster.yaml": ray}


def test_prefect_is_the_same_wherever_it_is_named() -> None:
    said = yaml.safe_load((DEPLOY / "prefect.yaml").read_text())["prefect-version"]

    assert said == locked("prefect") == locked("prefect", "deploy/requirements-cluster.lock")
