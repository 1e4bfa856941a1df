"""Progress in a log file: a line now and then, with what is left."""

from __future__ import annotations

import io

from crackmodel.cli.progress import ProgressBar, TrainingLines
from crackmodel.models.datasets.labelled import BadFile
from crackmodel.models.training.training_events import (
    DatasetRead,
    EpochFinished,
    FeaturesExtracted,
    RecipeRepeated,
)
from crackmodel.scoring.run_events import RunPlanned, ShardCommitted


def commit(shard: int, done: int) -> ShardCommitted:
    return ShardCommitted("run", shard, images=10, cracks=2, rejected=1, tiles=10, done=done, pending=1_000)


def test_a_log_file_gets_counts_rate_and_time_left() -> None:
    log = io.StringIO()
    with ProgressBar(log, seconds_between_lines=0) as bar:
        bar(RunPlanned("run", "deck", "report", "builtin@v1", listed=1_200, skipped=200, pending=1_000))
        bar(commit(0, 10))
        bar(commit(1, 20))

    planned, first, second = log.getvalue().splitlines()
    assert planned == "deck: 1,200 listed, 1,000 to score"
    assert first == "10 of 1,000 images, 2 with cracks, 1 rejected"
    assert second.startswith("20 of 1,000 images, ")
    assert second.endswith(" s left, 4 with cracks, 2 rejected")
    assert "images/s" in second


def test_few_lines_are_written_when_much_happens() -> None:
    log = io.StringIO()
    with ProgressBar(log, seconds_between_lines=3_600) as bar:
        bar(RunPlanned("run", "deck", "report", "builtin@v1", listed=1_000, skipped=0, pending=1_000))
        for shard in range(99):
            bar(commit(shard, 10 * shard + 10))

    assert log.getvalue().splitlines() == ["deck: 1,000 listed, 1,000 to score"]


def test_training_tells_features_and_epochs() -> None:
    log = io.StringIO()
    tell = TrainingLines(log)
    tell(FeaturesExtracted(8_000, 8_000))
    tell(DatasetRead(8_000, (), {}))
    tell(EpochFinished(3, 10, loss=0.125, accuracy=0.95, val_loss=0.25, val_accuracy=0.9))

    assert log.getvalue().splitlines() == [
        "features of 8,000 of 8,000 images",
        "8,000 images",
        "epoch   3 of 10: loss 0.1250, accuracy 0.9500, validation loss 0.2500, accuracy 0.9000",
    ]


def test_training_counts_files_left_out_and_names_the_first() -> None:
    log = io.StringIO()
    tell = TrainingLines(log)
    bad = tuple(BadFile(f"crack/{number}\x1b.jpg", "empty") for number in range(5))
    tell(DatasetRead(100, bad, {}))
    tell(DatasetRead(100, bad[:1], {}))

    many, one = log.getvalue().splitlines()
    assert many.startswith(r"100 images; 5 files are left out: crack/0\x1b.jpg: empty; crack/1\x1b.jpg")
    assert many.endswith("; and 2 more")
    assert one == r"100 images; 1 file is left out: crack/0\x1b.jpg: empty"


def test_training_says_what_differs_from_the_model_it_repeats() -> None:
    log = io.StringIO()
    tell = TrainingLines(log)
    tell(RecipeRepeated("walls@v1", ()))
    tell(RecipeRepeated("walls@v1", ("keras is 3.1, was 3.0", "the data set deck is missing")))

    assert log.getvalue().splitlines() == [
        "the recipe, images, weights and software of walls@v1",
        "the recipe of walls@v1, but keras is 3.1, was 3.0; the data set deck is missing",
    ]
