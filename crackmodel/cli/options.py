"""Options and parameters, made from the settings: each is described in `crackmodel.settings` alone.

    def score(survey: SurveyArgument, settings: ScoreSettings, as_json: JsonOption = False) -> None: ...

`with_options(score)` is the same command for Typer, with an option for each field of `ScoreSettings` in place
of `settings`; `with_parameters(score)` is it for Prefect, whose deployments describe flat parameters.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar, cast, get_args, get_type_hints

import typer
from annotated_types import Ge, Le
from pydantic.fields import FieldInfo

from crackmodel.settings import Settings

Result = TypeVar("Result")

_BY_NAME: Final = inspect.Parameter.KEYWORD_ONLY
"""What is optional is given by name: a new setting must not move the others."""

TUNING: Final = "Limits and tuning"
"""Where `--help` shows the options that few people change."""

SurveyArgument = Annotated[str, typer.Argument(help="Folder or s3://, gs://, abfss:// URI with photographs.")]
RootArgument = Annotated[
    str, typer.Argument(help="Folder or s3://, gs:// URI with a folder per survey, or a surveys.toml.")
]
DatasetsArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="DATASET...", help="Folder with one folder of images per class, or a manifest; or several."
    ),
]
ModelArgument = Annotated[str, typer.Argument(help="NAME, NAME@VERSION, NAME@ALIAS or builtin.")]
SurveyNameOption = Annotated[
    str | None,
    typer.Option(
        "--name",
        help="The survey's name in the report; two surveys of one report need two names. "
        "[default: the folder's]",
    ),
]
ModelNameOption = Annotated[
    str | None, typer.Option("--name", help="Name in the registry. [default: the folder's]")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout, nothing else.")]


def with_options(command: Callable[..., Result]) -> Callable[..., Result]:
    """Give a command an option for every field of its settings.

    Args:
        command: A function with one parameter whose type is a `Settings`, besides arguments of its own.
    """
    return _flat(command, _typer_option)


def with_parameters(function: Callable[..., Result]) -> Callable[..., Result]:
    """Give a flow a parameter for every field of its settings, described in its docstring.

    Args:
        function: As for `with_options`; its docstring describes `settings` in one line.
    """
    flat = _flat(function, _plain_parameter)
    lines = [f"    {name}: {describe(field)}" for name, field in settings_of(function).model_fields.items()]
    flat.__doc__ = re.sub(r" +settings: .*", "\n".join(lines), inspect.getdoc(function) or "", count=1)
    return flat


def settings_of(function: Callable[..., Any]) -> type[Settings]:
    """Return the class of a function's settings."""
    found: type[Settings] = next(hint for hint in get_type_hints(function).values() if _is_settings(hint))
    return found


def describe(field: FieldInfo) -> str:
    """Describe a setting in one sentence, with its default."""
    default = _extra(field)["unset"] if field.default is None else field.default
    shown = ("on" if default else "off") if isinstance(default, bool) else default
    return f"{field.description}. [default: {shown}]"


def _extra(field: FieldInfo) -> dict[str, Any]:
    return cast(dict[str, Any], field.json_schema_extra)


def _is_settings(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, Settings)


def _flat(
    function: Callable[..., Result], parameter: Callable[[str, FieldInfo], Any]
) -> Callable[..., Result]:
    """Replace the parameter of a function that takes settings by one for each field."""
    hints = get_type_hints(function, include_extras=True)
    kind = settings_of(function)
    own = inspect.signature(function).parameters
    (holder,) = (name for name in own if hints[name] is kind)
    mine = [own[name].replace(annotation=hints[name]) for name in own if name != holder]
    theirs = [
        inspect.Parameter(name, _BY_NAME, default=None, annotation=parameter(name, field))
        for name, field in kind.model_fields.items()
    ]
    required = [each for each in mine if each.default is inspect.Parameter.empty]
    optional = [each.replace(kind=_BY_NAME) for each in mine[len(required) :]]
    signature = inspect.Signature([*required, *theirs, *optional], return_annotation=hints.get("return"))

    @functools.wraps(function)
    def flat(*args: Any, **kwargs: Any) -> Result:
        given = signature.bind(*args, **kwargs).arguments
        settings = {name: given.pop(name) for name in kind.model_fields if name in given}
        return function(**given, **{holder: kind.read(**settings)})

    vars(flat).update(__signature__=signature, settings=kind)
    flat.__annotations__ = {each.name: each.annotation for each in signature.parameters.values()}
    del vars(flat)["__wrapped__"]  # whose parameters are others
    return flat


def _plain_parameter(name: str, field: FieldInfo) -> Any:
    """Annotate a parameter with a setting's type and bounds."""
    kind: Any = field.annotation
    return (Annotated[(kind, *field.metadata)] if field.metadata else kind) | None


def _typer_option(name: str, field: FieldInfo) -> Any:
    """Annotate a parameter as the option of a setting; without it the environment decides."""
    extra = _extra(field)
    kind, bounds = _bare(field)
    flag = f"--{name.replace('_', '-')}"
    return Annotated[
        kind | None,
        typer.Option(
            *([extra["short"]] if extra["short"] else []),
            f"{flag}/--no-{name.replace('_', '-')}" if kind is bool else flag,
            help=describe(field),
            rich_help_panel=TUNING if extra["tuning"] else None,
            **bounds,
        ),
    ]


def _bare(field: FieldInfo) -> tuple[Any, dict[str, Any]]:
    """Strip a setting's type to what Typer knows, and find its bounds."""
    kind: Any = field.annotation
    metadata = list(field.metadata)
    while parts := [part for part in get_args(kind) if part is not type(None)]:
        if hasattr(kind, "__metadata__"):
            metadata += kind.__metadata__
        elif len(parts) == len(get_args(kind)):  # a list or a Literal, and not an optional type
            break
        kind = parts[0]
    flat = [part for each in metadata for part in (each.metadata if isinstance(each, FieldInfo) else [each])]
    low = next((part.ge for part in flat if isinstance(part, Ge)), None)
    high = next((part.le for part in flat if isinstance(part, Le)), None)
    numeric = kind in (int, float)
    bounds = {"min": low, "max": high} if numeric else {}
    return (str if kind is Path else kind), {key: value for key, value in bounds.items() if value is not None}
