"""Reading ahead: every file once, in order, and no more of them in memory than was promised."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import fs

from crackmodel.errors import ImageRejected, SurveyError
from crackmodel.scoring.plan import ListedFile
from crackmodel.scoring.worker.fetching import _group_by_bytes, fetch_ahead
from crackmodel.surveys.decoding import DecodeLimits
from crackmodel.surveys.listing import Survey, list_survey
from tests.object_store import ObjectStore

LIMITS = DecodeLimits(max_bytes=2**30, max_pixels=2**30)
NOW = datetime.now(UTC)


@given(st.lists(st.integers(0, 3_000_000), min_size=1, max_size=60))
def test_groups_hold_every_file_once_and_close_at_about_a_megabyte(sizes: list[int]) -> None:
    files = [ListedFile(f"{number}.jpg", size, NOW) for number, size in enumerate(sizes)]
    groups = list(_group_by_bytes(files, 2**20))

    assert [file for group in groups for file in group] == files
    assert all(sum(file.bytes for file in group[:-1]) < 2**20 for group in groups)


def listed(uri: str) -> tuple[ListedFile, ...]:
    return tuple(ListedFile(**row) for row in list_survey(Survey.parse(uri)).files.to_pylist())


@pytest.fixture
def photographs(upload: Callable[[Path, str], str], tmp_path: Path) -> str:
    (tmp_path / "deck").mkdir()
    for number in range(30):
        (tmp_path / "deck" / f"{number:02}.jpg").write_bytes(b"%d" % number * (1 + number % 3))
    return upload(tmp_path / "deck", "deck")


def test_a_store_is_asked_for_many_files_at_once(object_store: ObjectStore, photographs: str) -> None:
    files = listed(photographs)
    asked: set[str] = set()
    more_asked = threading.Condition()

    def meet(method: str, path: str) -> bool:
        if method == "GET" and path.endswith(".jpg"):
            with more_asked:  # nobody is answered before ten different files are asked for
                asked.add(path)
                more_asked.notify_all()
                more_asked.wait_for(lambda: len(asked) >= 10, timeout=60)
        return False

    object_store.is_hit, object_store.busy = meet, 1
    storage, root = Survey.parse(photographs).open()
    fetched = list(fetch_ahead(storage, root, files, LIMITS))
    assert [file for file, _ in fetched] == list(files)
    assert [content for _, content in fetched] == [b"%d" % n * (1 + n % 3) for n in range(30)]


class _Large:
    """A store of files that are as large as they say and nothing; counts those that nobody has taken yet."""

    type_name = "large"

    def __init__(self, size: int) -> None:
        self.size, self.opened, self.lock = size, 0, threading.Lock()

    def open_input_file(self, path: str) -> Any:
        with self.lock:
            self.opened += 1
        raise OSError("not today")

    def get_file_info(self, path: str) -> fs.FileInfo:
        return fs.FileInfo(path, fs.FileType.Directory)


def test_what_is_read_ahead_of_the_model_is_bounded_by_bytes() -> None:
    size = 5 * 2**20
    files = [ListedFile(f"{number}.jpg", size, NOW) for number in range(40)]
    store = _Large(size)
    taken = 0
    for _, content in fetch_ahead(store, "bucket/deck", files, LIMITS):  # type: ignore[arg-type]
        assert isinstance(content, ImageRejected)
        taken += 1
        assert store.opened <= taken + 32 // 5
    assert taken == store.opened == 40


def test_an_object_that_is_gone_is_rejected_and_the_others_are_read(photographs: str) -> None:
    files = listed(photographs)
    storage, root = Survey.parse(photographs).open()
    storage.delete_file(f"{root}/07.jpg")
    fetched = [content for _, content in fetch_ahead(storage, root, files, LIMITS)]
    lost = [content for content in fetched if isinstance(content, ImageRejected)]
    assert [(fault.code, fault.stage) for fault in lost] == [("vanished", "fetch")]
    assert len(fetched) == 30


def test_a_busy_store_is_asked_again(object_store: ObjectStore, photographs: str) -> None:
    files = listed(photographs)
    storage, root = Survey.parse(photographs).open()
    object_store.busy = 10
    assert all(isinstance(content, bytes) for _, content in fetch_ahead(storage, root, files, LIMITS))
    assert object_store.refused == 10


def test_a_store_that_knows_the_worker_no_more_is_no_image_s_fault(
    object_store: ObjectStore, photographs: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = listed(photographs)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "SOMEBODY")
    storage, root = Survey.parse(photographs).open()
    with pytest.raises(SurveyError, match=r"cannot read inspections/deck any more: access was denied\."):
        list(fetch_ahead(storage, root, files, LIMITS))


@pytest.fixture
def deck(tmp_path: Path) -> Path:
    """A survey on a disk: 12 files in `span`, one beside it."""
    (tmp_path / "deck" / "span").mkdir(parents=True)
    (tmp_path / "deck" / "notes.txt").write_text("x")
    for number in range(12):
        (tmp_path / "deck" / "span" / f"{number:02}.jpg").write_bytes(b"x")
    return tmp_path / "deck"


def spans(deck: Path) -> tuple[ListedFile, ...]:
    return tuple(file for file in listed(str(deck)) if file.image.startswith("span/"))


def fetch(deck: Path, files: Sequence[ListedFile]) -> Counter[str]:
    """Count what became of files: `read`, or the code of the fault."""
    fetched = fetch_ahead(*Survey.parse(deck).open(), files, LIMITS)
    return Counter(content.code if isinstance(content, ImageRejected) else "read" for _, content in fetched)


def test_a_share_that_is_unmounted_leaves_an_empty_folder_and_stops_the_run(
    deck: Path, tmp_path: Path
) -> None:
    files = listed(str(deck))
    (tmp_path / "server").mkdir()
    for entry in tuple(deck.iterdir()):
        entry.rename(tmp_path / "server" / entry.name)

    for some in (files, files[:1]):
        with pytest.raises(SurveyError, match=r"went away .*: its folder is empty"):
            fetch(deck, some)


def test_a_survey_that_became_a_file_stops_the_run(deck: Path, tmp_path: Path) -> None:
    files = listed(str(deck))
    deck.rename(tmp_path / "server")
    deck.write_text("no folder")

    with pytest.raises(SurveyError, match=r"went away .*: it is not there any more"):
        fetch(deck, files[:1])


@pytest.mark.parametrize("leaves", ["nothing", "an empty folder", "a file"])
def test_a_shard_that_is_gone_as_a_whole_was_not_deleted_file_by_file(
    deck: Path, tmp_path: Path, leaves: str
) -> None:
    files = spans(deck)
    (deck / "span").rename(tmp_path / "server")
    if leaves == "an empty folder":
        (deck / "span").mkdir()
    elif leaves == "a file":
        (deck / "span").write_text("no folder")

    with pytest.raises(SurveyError, match=r"not one of 12 files is there, span/00\.jpg to span/11\.jpg"):
        fetch(deck, files)
    assert fetch(deck, files[:3]) == {"vanished": 3}


def test_a_shard_of_which_one_file_is_left_has_lost_files_only(deck: Path) -> None:
    files = spans(deck)
    for number in range(11):
        (deck / "span" / f"{number:02}.jpg").unlink()

    assert fetch(deck, files) == {"vanished": 11, "read": 1}


def test_a_disk_that_answers_with_errors_only_is_no_image_s_fault(deck: Path, tmp_path: Path) -> None:
    files = spans(deck)
    (deck / "span").rename(tmp_path / "server")
    (deck / "span").symlink_to("span")  # any error but "not found", as of a file server that is down

    with pytest.raises(SurveyError, match=r"A worker on .* cannot read .*deck any more: .*symbolic links"):
        fetch(deck, files[:1])


def test_a_file_that_cannot_be_read_beside_others_is_a_rejected_image(deck: Path) -> None:
    files = spans(deck)
    for number in range(12):
        (deck / "span" / f"{number:02}.jpg").unlink()
        (deck / "span" / f"{number:02}.jpg").symlink_to(f"{number:02}.jpg")

    assert fetch(deck, files) == {"unreadable": 12}
