"""The Kubernetes files: by published schemas, and by what they promise."""

from __future__ import annotations

import inspect
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import jsonschema
import kubernetes_validate
import pytest
import yaml

from flows.serving import stop_runs
from tests.deploy.kuberay import SCHEMAS, validate_pod_template
from tests.deploy.manifests import CHECKOUT, DEPLOY, kubernetes, pod_templates

_OLDEST: Final = "1.30"
_NEWEST: Final = "1.37"
_OBJECTS: Final = [
    pytest.param(document, id=f"{path.stem}-{document['kind']}") for path, document in kubernetes()
]
_TEMPLATES: Final = [
    pytest.param(template["spec"], id=f"{path.stem}-{number}")
    for path, document in kubernetes()
    for number, template in enumerate(pod_templates(document))
]


def _containers(spec: dict[str, Any]) -> list[dict[str, Any]]:
    return [*spec["containers"], *spec.get("initContainers", ())]


@pytest.mark.parametrize("version", [_OLDEST, _NEWEST])
@pytest.mark.parametrize("document", _OBJECTS)
def test_kubernetes_knows_every_field(document: dict[str, Any], version: str) -> None:
    if document["apiVersion"] == "ray.io/v1":
        jsonschema.validate(document, SCHEMAS[document["kind"]])
        templates = list(pod_templates(document))
        assert len(templates) >= 2
        for template in templates:
            validate_pod_template(template, version)
    else:
        kubernetes_validate.validate(document, version, strict=True)


def test_a_field_with_a_typing_error_is_found() -> None:
    cluster = yaml.safe_load((DEPLOY / "kubernetes" / "raycluster.yaml").read_text())
    cluster["spec"]["workerGroupSpecs"][0]["maxReplica"] = 3
    template = cluster["spec"]["headGroupSpec"]["template"]
    template["spec"]["containers"][0]["readinesProbe"] = {}

    with pytest.raises(jsonschema.ValidationError, match="maxReplica"):
        jsonschema.validate(cluster, SCHEMAS["RayCluster"])
    with pytest.raises(jsonschema.ValidationError, match="readinesProbe"):
        validate_pod_template(template, _NEWEST)


@pytest.mark.parametrize("spec", _TEMPLATES)
def test_pods_meet_the_restricted_standard(spec: dict[str, Any]) -> None:
    # https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted
    pod = spec["securityContext"]
    assert pod["runAsNonRoot"] is True
    assert pod["runAsUser"] > 0
    assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
    assert {next(iter(set(volume) - {"name"})) for volume in spec["volumes"]} <= {
        "emptyDir",
        "persistentVolumeClaim",
    }
    for container in _containers(spec):
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["readOnlyRootFilesystem"] is True
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert not any("hostPort" in port for port in container.get("ports", ()))


@pytest.mark.parametrize("spec", _TEMPLATES)
def test_what_is_written_has_a_volume(spec: dict[str, Any]) -> None:
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    for container in _containers(spec):
        mounted = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        assert set(mounted.values()) <= set(volumes)
        assert "emptyDir" in volumes[mounted["/tmp"]]
        if container["name"].startswith("ray-"):
            assert volumes[mounted["/dev/shm"]]["emptyDir"]["medium"] == "Memory"


@pytest.mark.parametrize("spec", _TEMPLATES)
def test_resources_and_probes_are_given(spec: dict[str, Any]) -> None:
    for container in _containers(spec):
        resources = container["resources"]
        assert {"cpu", "memory"} <= set(resources["requests"])
        assert "memory" in resources["limits"]
    for container in spec["containers"]:
        assert {"startupProbe", "readinessProbe", "livenessProbe"} <= set(container)


@pytest.mark.parametrize("spec", _TEMPLATES)
def test_secrets_are_references(spec: dict[str, Any]) -> None:
    for container in _containers(spec):
        for variable in container.get("env", ()):
            if any(
                word in variable["name"] for word in ("TOKEN", "PASSWORD", "AUTH_STRING", "CONNECTION_URL")
            ):
                assert "secretKeyRef" in variable["valueFrom"], variable["name"]
    assert not any(document["kind"] == "Secret" for _, document in kubernetes())


def test_runs_are_asked_to_end_before_their_worker() -> None:
    (deployment,) = [
        document
        for path, document in kubernetes()
        if (path.stem, document["kind"]) == ("prefect-worker", "Deployment")
    ]
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]

    # Nothing is started by a shell, so the worker is the container's first process.
    assert container["command"][:3] == ["prefect", "worker", "start"]
    stop = ["python", "-m", "flows.serving.stop_runs", "1"]
    assert container["lifecycle"]["preStop"]["exec"]["command"] == stop
    assert (
        pod["terminationGracePeriodSeconds"] > inspect.signature(stop_runs.main).parameters["seconds"].default
    )


def test_a_prometheus_may_read_every_ray_node() -> None:
    (policy,) = [
        document["spec"] for _, document in kubernetes() if document["metadata"].get("name") == "ray-metrics"
    ]
    ((port,),) = [rule["ports"] for rule in policy["ingress"]]

    # KubeRay starts every node with this one.
    assert port == {"protocol": "TCP", "port": 8080}
    assert policy["podSelector"] == {"matchExpressions": [{"key": "ray.io/cluster", "operator": "Exists"}]}


def test_the_cpu_group_grows_and_the_gpu_group_is_off() -> None:
    cluster = yaml.safe_load((DEPLOY / "kubernetes" / "raycluster.yaml").read_text())["spec"]
    groups = {group["groupName"]: group for group in cluster["workerGroupSpecs"]}

    assert cluster["enableInTreeAutoscaling"] is True
    assert groups["cpu"]["minReplicas"] < groups["cpu"]["maxReplicas"]
    assert groups["gpu"]["replicas"] == groups["gpu"]["minReplicas"] == 0
    assert groups["gpu"]["maxReplicas"] == 1
    limits = groups["gpu"]["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert limits["nvidia.com/gpu"] == "1"
    # No shard runs beside the cluster's state.
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"


def test_whoever_reaches_a_pod_is_named() -> None:
    policies = {
        document["metadata"]["name"]: document["spec"]
        for path, document in kubernetes()
        if path.stem == "network"
    }

    assert policies["deny-ingress"] == {"podSelector": {}, "policyTypes": ["Ingress"]}
    for name, policy in policies.items():
        for rule in policy.get("ingress", ()):
            assert rule["from"], f"{name} lets everybody in"
            assert all(source for source in rule["from"])


def _documented_secrets() -> str:
    return (CHECKOUT / "docs" / "containers.md").read_text()


def test_every_secret_that_is_needed_is_in_the_manual() -> None:
    needed = set()
    for _, document in kubernetes():
        for text in _secret_names(document):
            needed.add(text)

    assert needed == {"crackmodel-ray", "crackmodel-prefect", "crackmodel-storage"}
    assert not {name for name in needed if f"generic {name} " not in _documented_secrets()}


def _secret_names(value: Any) -> list[str]:
    if isinstance(value, list):
        return [name for inner in value for name in _secret_names(inner)]
    if not isinstance(value, dict):
        return []
    found = [value[key]["name"] for key in ("secretRef", "secretKeyRef") if key in value]
    if "secretName" in value:
        found.append(value["secretName"])
    return found + [name for inner in value.values() for name in _secret_names(inner)]


def test_kustomize_gives_every_image_its_registry(tmp_path: Path) -> None:
    if shutil.which("kubectl") is None:
        pytest.skip("there is no kubectl here")
    folder = shutil.copytree(DEPLOY / "kubernetes", tmp_path / "kubernetes")
    said = yaml.safe_load((folder / "kustomization.yaml").read_text())
    # What `kustomize edit set image` writes.
    said["images"] = [each | {"newName": f"registry.example/{each['name']}"} for each in said["images"]]
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(said))

    built = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True, check=True)

    containers = [
        container
        for item in yaml.safe_load_all(built.stdout)
        for template in pod_templates(item)
        for container in _containers(template["spec"])
    ]
    assert len(containers) == 6
    assert all(container["image"].startswith("registry.example/") for container in containers)


def test_kustomize_puts_everything_together() -> None:
    if shutil.which("kubectl") is None:
        pytest.skip("there is no kubectl here")
    built = subprocess.run(
        ["kubectl", "kustomize", str(DEPLOY / "kubernetes")], capture_output=True, text=True, check=True
    )
    objects = list(yaml.safe_load_all(built.stdout))

    expected = [
        document for path, document in kubernetes() if path != Path(DEPLOY / "kubernetes" / "train.yaml")
    ]
    assert sorted(item["kind"] for item in objects) == sorted(item["kind"] for item in expected)
    assert {item["metadata"].get("namespace", "crackmodel") for item in objects} == {"crackmodel"}
    for item in objects:
        if item["kind"] not in SCHEMAS:
            kubernetes_validate.validate(item, _NEWEST, strict=True)
