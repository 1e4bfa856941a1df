"""What `deploy/` says, read once for every test that asks."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

CHECKOUT: Final = Path(__file__).resolve().parents[2]
DEPLOY: Final = CHECKOUT / "deploy"
_VARIABLE: Final = re.compile(r"\$\{(\w+)(?::([-?])([^}]*))?\}")


def compose(values: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The Compose file; with values, its `${NAME:-default}` are filled in and `$$` is a dollar sign."""
    text = (DEPLOY / "compose" / "compose.yaml").read_text()
    if values is not None:

        def fill(found: re.Match[str]) -> str:
            name, kind, default = found.groups()
            if name not in values:
                assert kind == "-", f"{name} has no value"
            return values.get(name, default)

        text = _VARIABLE.sub(fill, text).replace("$$", "$")
    document: dict[str, Any] = yaml.safe_load(text)
    return document


def kubernetes() -> list[tuple[Path, dict[str, Any]]]:
    """Every object of the Kubernetes files, with its file."""
    return [
        (path, document)
        for path in sorted((DEPLOY / "kubernetes").glob("*.yaml"))
        if path.name != "kustomization.yaml"
        for document in yaml.safe_load_all(path.read_text())
    ]


def pod_templates(document: Any) -> Iterator[dict[str, Any]]:
    """Every pod template of an object, wherever it is."""
    if isinstance(document, dict):
        if isinstance(document.get("template"), dict) and "containers" in document["template"].get(
            "spec", {}
        ):
            yield document["template"]
        for value in document.values():
            yield from pod_templates(value)
    elif isinstance(document, list):
        for value in document:
            yield from pod_templates(value)


def locked(name: str, lock: str = "requirements.lock") -> str:
    """The version of a package that a lock has."""
    found = re.search(rf"^{re.escape(name)}==(\S+)", (CHECKOUT / lock).read_text(), re.MULTILINE)
    assert found, f"{lock} has no {name}"
    return found[1]
