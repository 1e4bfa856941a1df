"""A job's log, read by a program."""

from __future__ import annotations

import inspect
import io
from typing import Any, get_args

import pytest

from crackmodel import errors
from crackmodel.cluster.capacity import ClusterAwaited
from crackmodel.cluster.jobs.log_protocol import Recorder, read_record, record_error, write_result
from crackmodel.errors import CrackmodelError
from crackmodel.models.datasets.labelled import BadFile
from crackmodel.models.training.training_events import (
    DatasetRead,
    EpochFinished,
    FeaturesExtracted,
    RecipeRepeated,
    TrainingEvent,
)
from crackmodel.scoring.run_events import (
    ClockBehind,
    CompactionFailed,
    Event,
    ReportCompacted,
    RunPlanned,
    ShardCommitted,
    WorkerLost,
)

_KINDS = {kind.__name__: kind for kind in get_args(Event) + get_args(TrainingEvent)}

_EVENTS = [
    RunPlanned("r", "Brücke\n@7", "/mnt/report", "builtin@v1", 9, 1, 8),
    ShardCommitted("r", 3, 500, 7, 1, 500, 1000, 2000, 2.5, "node-1", {"decode": 0.25}, ("a.jpg: empty",)),
    WorkerLost("r", 3, 2, "a.jpg"),
    ClusterAwaited("No Ray node offers a CPU", 900.0),
    ClockBehind("r", "20991231T000000Z-aaaaaa", 90.5),
    ReportCompacted("r", "bridge", 200, 1),
    CompactionFailed("r", "bridge", "No room.", "Make some."),
    FeaturesExtracted(250, 1000),
    DatasetRead(79, (BadFile("a.jpg", "not an image"),), {"walls": "0" * 64}),
    RecipeRepeated("walls@v1", ("images", "weights")),
    EpochFinished(1, 10, 0.5, 0.75, float("inf"), 0.8),
]


def _line(write: Any) -> str:
    stream = io.StringIO()
    write(stream)
    line, rest = stream.getvalue().split("\n")
    assert not rest
    return line


@pytest.mark.parametrize("event", _EVENTS, ids=lambda event: type(event).__name__)
def test_an_event_comes_back_as_it_was(event: Any) -> None:
    assert read_record(_line(lambda stream: Recorder(stream)(event)), _KINDS) == event


@pytest.mark.parametrize(
    "cls",
    [cls for _, cls in inspect.getmembers(errors, inspect.isclass) if issubclass(cls, CrackmodelError)],
)
def test_an_error_comes_back_with_its_class_and_words(cls: type[CrackmodelError]) -> None:
    error = cls("Nothing is in /mnt/{a}.", "Look\nthere.")
    read = read_record(_line(lambda stream: record_error(error, stream)), _KINDS)

    assert type(read) is cls
    assert (read.problem, read.remedy) == (error.problem, error.remedy)


@pytest.mark.parametrize(
    "line",
    [
        "", "{", "{}", "@", "@RunPlanned", "@RunPlanned {}", '@RunPlanned {"run_id": 3}', "@Later {}",
        '@OSError {"problem": "x"}', "2026-11-25 02:00:00 INFO {'a': 1}", "[1]",
    ],
)  # fmt: skip
def test_what_is_no_record_is_for_people(line: str) -> None:
    assert read_record(line, _KINDS) is None


def test_a_result_comes_back_as_it_was() -> None:
    result = {"run_id": "r", "top": []}

    assert read_record(_line(lambda stream: write_result(result, stream)), _KINDS) == result


def test_json_without_a_tag_is_for_people() -> None:
    assert read_record('{"run_id": "r", "top": []}', _KINDS) is None
