"""The cluster-launcher file, by Ray's own checks."""

from __future__ import annotations

import pytest
import yaml

from tests.deploy.manifests import DEPLOY


def test_ray_up_accepts_the_file() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = yaml.safe_load((DEPLOY / "ray" / "cluster.yaml").read_text())
    prepared = prepare_config(config)

    validate_config(prepared)
    (group,) = prepared["available_node_types"].values()
    assert group["min_workers"] == group["max_workers"] == len(config["provider"]["worker_ips"])
    with pytest.raises(Exception, match="setup_comands"):
        validate_config(prepared | {"setup_comands": []})


def test_no_part_of_the_launched_cluster_is_without_its_token() -> None:
    config = yaml.safe_load((DEPLOY / "ray" / "cluster.yaml").read_text())
    started = [
        command
        for kind in ("head_start_ray_commands", "worker_start_ray_commands")
        for command in config[kind]
        if "ray start" in command
    ]

    assert len(started) == 2
    assert all(command.startswith("RAY_AUTH_MODE=token ") for command in started)
    assert "--dashboard-host=127.0.0.1" in started[0]
    assert config["file_mounts"] == {"~/.ray/auth_token": "~/.ray/auth_token"}
