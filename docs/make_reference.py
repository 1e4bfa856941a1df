"""Write `docs/reference.md`: every option of every command, from the commands themselves.

    python docs/make_reference.py

`tests/test_reference.py` fails while the page is not what this writes.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import typer

from crackmodel import settings
from crackmodel.cli.main import app
from flows import automations, nightly, score, serve, train
from flows.serving import stop_runs

PAGE = Path(__file__).with_name("reference.md")

_HEAD = """# Reference: commands, options, variables

This page is made from the code by `python docs/make_reference.py`; a test fails when it is not up to date.

Options that have a variable can be set in the environment too. An option goes before its variable, a variable
before the default; a flag `--x` that the environment sets is taken back by `--no-x`.
"""

_FLOWS = """
## Flows

Each runs by `python -m` and, with the same parameters, as a Prefect flow: see [scheduling.md](scheduling.md).
"""

_VARIABLES = """
## Variables without an option

| variable | meaning | default |
|---|---|---|
| `CRACKMODEL_JOB_PYTHON` | {job_python} | the one that submits the job |
| `RAY_ADDRESS` | `HOST:6379` joins that cluster, `http://HOST:8265` runs commands there as jobs: \
[clusters.md](clusters.md) | a Ray of the command's own |

## Exit codes

| code | meaning |
|---|---|
| 0 | done |
| 1 | failed; nothing is lost, and the message says what to do |
| 2 | wrong usage |
| 3 | done, but more images were rejected than `--max-rejected` allows |
"""


def reference() -> str:
    """Return the page."""
    group: Any = typer.main.get_command(app)
    parts = [_HEAD, "\n## Commands\n"]
    for name, command in group.commands.items():
        for sub, each in getattr(command, "commands", {"": command}).items():
            parts += _section(f"crackmodel {name} {sub}".strip(), each)
    parts.append(_FLOWS)
    for module in (score, nightly, train, serve, automations, stop_runs):
        parts += _section(f"python -m {module.__name__}", _command(module.main))
    field = settings.JobSettings.model_fields["job_python"]
    parts.append(_VARIABLES.format(job_python=field.description))
    return "\n".join(parts)


def _command(main: Callable[..., Any]) -> Any:
    alone = typer.Typer(add_completion=False)
    alone.command()(main)
    return typer.main.get_command(alone)


def _section(name: str, command: Any) -> Iterator[str]:
    words = inspect.cleandoc(command.help or "")
    usage = " ".join(_usage(each) for each in command.params if each.param_type_name == "argument")
    yield f"### `{name}{' ' if usage else ''}{usage}`\n\n{words}\n"
    options = [each for each in command.params if each.param_type_name == "option" and each.name != "help"]
    if options:
        yield "| option | meaning | default | variable |\n|---|---|---|---|"
        known = getattr(command.callback, "settings", settings.Settings).model_fields
        yield "\n".join(_row(each, each.name in known) for each in options) + "\n"


def _usage(argument: Any) -> str:
    return (argument.metavar or argument.name or "").strip("{}").upper()


def _row(option: Any, has_variable: bool) -> str:
    """Describe an option: what it does, what it takes, what it is without."""
    variable = f"`CRACKMODEL_{option.name.upper()}`" if has_variable else ""
    words, _, default = (option.help or "").partition(" [default: ")
    if not default and isinstance(option.show_default, str):
        default = option.show_default
    if not default and option.default is not None:
        default = {True: "on", False: "off"}.get(option.default, option.default)
    flags = ", ".join(f"`{flag}`" for flag in [*option.opts, *option.secondary_opts])
    cells = [flags, words + _values(option), str(default).removesuffix("]"), variable]
    return "| " + " | ".join(re.sub(r"\|", r"\\|", cell) for cell in cells) + " |"


def _values(option: Any) -> str:
    """Say what an option takes, where its words do not."""
    choices = get_args(option.type_descriptor.annotation)
    if choices and all(isinstance(choice, str) for choice in choices):
        return f" One of {', '.join(f'`{choice}`' for choice in choices)}."
    low, high = option.min, option.max
    if high is None:
        return "" if low is None else f" At least {low}."
    return f" At most {high:g}." if low is None else f" {low} to {high:g}."


if __name__ == "__main__":
    PAGE.write_text(reference(), encoding="utf-8")
