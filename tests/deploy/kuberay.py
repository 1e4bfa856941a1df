"""Which fields KubeRay 1.7.0 knows, so that a field with a typing error, which it would drop, is found.

Names, kinds and values are those of its reference,
https://github.com/ray-project/kuberay/blob/v1.7.0/docs/reference/api.md.
No package has the schemas themselves.
"""

from __future__ import annotations

from typing import Any, Final

import kubernetes_validate

_ANYTHING: Final[dict[str, Any]] = {"type": "object"}
_TEXTS: Final[dict[str, Any]] = {"type": "object", "additionalProperties": {"type": "string"}}
_TEXT: Final[dict[str, Any]] = {"type": "string"}
_SWITCH: Final[dict[str, Any]] = {"type": "boolean"}
_COUNT: Final[dict[str, Any]] = {"type": "integer", "minimum": 0}
_LIST: Final[dict[str, Any]] = {"type": "array"}


def _one_of(*values: str) -> dict[str, Any]:
    return {"enum": list(values)}


def _object(required: tuple[str, ...] = (), **fields: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": fields, "required": list(required), "additionalProperties": False}


_HEAD_GROUP: Final = _object(
    ("template", "rayStartParams"),
    template=_ANYTHING,
    headService=_ANYTHING,
    enableIngress=_SWITCH,
    ingressOptions=_ANYTHING,
    resources=_TEXTS,
    labels=_TEXTS,
    rayStartParams=_TEXTS,
    serviceType=_one_of("ClusterIP", "NodePort", "LoadBalancer"),
)

_WORKER_GROUP: Final = _object(
    ("template", "rayStartParams", "groupName", "minReplicas", "maxReplicas"),
    suspend=_SWITCH,
    groupName=_TEXT,
    replicas=_COUNT,
    minReplicas=_COUNT,
    maxReplicas=_COUNT,
    idleTimeoutSeconds=_COUNT,
    priority={"type": "integer"},
    resources=_TEXTS,
    labels=_TEXTS,
    rayStartParams=_TEXTS,
    template=_ANYTHING,
    scaleStrategy=_ANYTHING,
    numOfHosts=_COUNT,
)

_AUTOSCALER: Final = _object(
    resources=_ANYTHING,
    image=_TEXT,
    imagePullPolicy=_one_of("Always", "IfNotPresent", "Never"),
    securityContext=_ANYTHING,
    idleTimeoutSeconds=_COUNT,
    upscalingMode=_one_of("Default", "Aggressive", "Conservative"),
    version=_one_of("v1", "v2"),
    env=_LIST,
    envFrom=_LIST,
    volumeMounts=_LIST,
    command=_LIST,
    args=_LIST,
)

_CLUSTER: Final = _object(
    ("headGroupSpec",),
    upgradeStrategy=_object(type=_one_of("Recreate", "None")),
    authOptions=_object(enableK8sTokenAuth=_SWITCH, secretName=_TEXT, mode=_one_of("disabled", "token")),
    suspend=_SWITCH,
    managedBy=_TEXT,
    autoscalerOptions=_AUTOSCALER,
    headServiceAnnotations=_TEXTS,
    enableInTreeAutoscaling=_SWITCH,
    gcsFaultToleranceOptions=_ANYTHING,
    historyServerOptions=_ANYTHING,
    networkPolicy=_ANYTHING,
    tlsOptions=_ANYTHING,
    headGroupSpec=_HEAD_GROUP,
    rayVersion=_TEXT,
    workerGroupSpecs={"type": "array", "items": _WORKER_GROUP},
)

_JOB: Final = _object(
    activeDeadlineSeconds=_COUNT,
    backoffLimit=_COUNT,
    rayClusterSpec=_CLUSTER,
    submitterPodTemplate=_ANYTHING,
    metadata=_TEXTS,
    clusterSelector=_TEXTS,
    submitterConfig=_object(backoffLimit=_COUNT),
    managedBy=_TEXT,
    deletionStrategy=_ANYTHING,
    entrypoint=_TEXT,
    runtimeEnvYAML=_TEXT,
    jobId=_TEXT,
    submissionMode=_one_of("K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"),
    entrypointResources=_TEXT,
    entrypointNumCpus={"type": "number"},
    entrypointNumGpus={"type": "number"},
    ttlSecondsAfterFinished=_COUNT,
    preRunningDeadlineSeconds={"type": "integer", "minimum": 1},
    shutdownAfterJobFinishes=_SWITCH,
    suspend=_SWITCH,
)

SCHEMAS: Final = {
    kind: _object(
        ("apiVersion", "kind", "metadata", "spec"),
        apiVersion={"const": "ray.io/v1"},
        kind={"const": kind},
        metadata=_ANYTHING,
        spec=spec,
    )
    for kind, spec in (("RayCluster", _CLUSTER), ("RayJob", _JOB))
}


def validate_pod_template(template: dict[str, Any], kubernetes: str) -> None:
    """Check a pod template of a Ray group against Kubernetes' own schema, unknown fields included."""
    whole = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "ray"}, "template": template}
    kubernetes_validate.validate(whole, kubernetes, strict=True)
