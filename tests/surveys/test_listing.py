from __future__ import annotations

import hashlib
import os
import pickle
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar
from urllib.parse import parse_qs, urlsplit

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import fs

from crackmodel.errors import SurveyError, UsageError
from crackmodel.reports.schema import check_name
from crackmodel.storage.location import Location
from crackmodel.surveys.listing import LISTING_SCHEMA, Listing, Survey, _Found, list_survey


def write(path: Path, content: bytes = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def listed(place: str | Path, name: str | None = None) -> Listing:
    return list_survey(Survey.parse(place, name))


def default_name(place: str) -> str:
    return Survey.parse(place).name


def images(uri: str | Path) -> list[str]:
    found: list[str] = listed(uri).files["image"].to_pylist()
    return found


# ---------------------------------------------------------------- names and places


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("/data/bridge-07", "bridge-07"),
        ("/data/bridge-07/", "bridge-07"),
        ("/data/deck/../bridge-07", "bridge-07"),
        ("s3://inspections/2024/bridge%2D07/", "bridge-07"),
        ("gs://inspections", "inspections"),
        ("s3://inspections/deck?endpoint_override=localhost:9000", "deck"),
        ("/", "survey"),
        (f"/data/{'x' * 100}", "x" * 100),
    ],
)
def test_a_survey_is_named_after_its_folder(uri: str, name: str) -> None:
    assert default_name(uri) == name


@pytest.mark.parametrize(
    ("folder", "stem"),
    [
        ("Brücke 7 (Süd)", "Br-cke-7-S-d"),
        ("_locks", "locks"),
        ("..hidden", "hidden"),
        ("___", "survey"),
        ("橋梁一", "survey"),
        ("x" * 101, "x" * 93),
    ],
)
def test_a_folder_that_no_partition_can_be_called_gets_a_hash_to_its_name(folder: str, stem: str) -> None:
    assert default_name(f"/data/{folder}") == f"{stem}-{hashlib.sha256(folder.encode()).hexdigest()[:6]}"


@pytest.mark.parametrize(
    ("one", "other"),
    [("橋梁一", "橋梁二"), ("Brücke", "Bröcke"), ("a b", "a-b"), ("_a", "a"), ("x" * 101, "x" * 102)],
)
def test_two_folders_never_share_a_name(one: str, other: str) -> None:
    assert default_name(f"/data/{one}") != default_name(f"/data/{other}")


@settings(deadline=None)
@given(st.text(min_size=1).filter(lambda text: "\x00" not in text))
def test_every_folder_gives_a_name_that_a_partition_can_have(folder: str) -> None:
    name = default_name(f"/data/{folder}")
    assert check_name(name) == name
    assert list_survey_takes(name)


@settings(deadline=None)
@given(st.text("Aé0-._ /\n\x00", max_size=4) | st.integers(98, 103).map("x".__mul__))
def test_surveys_and_reports_agree_on_names(name: str) -> None:
    try:
        check_name(name)
    except UsageError:
        assert not list_survey_takes(name)
    else:
        assert list_survey_takes(name)


def list_survey_takes(name: str) -> bool:
    try:
        listed("/no/such/folder", name)
    except UsageError:
        return False
    except SurveyError:
        return True
    raise AssertionError("there is a folder /no/such/folder")


def test_a_relative_path_is_named_after_the_folder_it_means(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "bridge" / "a.jpg")
    monkeypatch.chdir(tmp_path / "bridge")
    listing = listed(".")
    assert listing.survey.name == "bridge"
    assert listing.survey.uri == str(tmp_path / "bridge")


def test_a_name_can_be_given(tmp_path: Path) -> None:
    write(tmp_path / "a.jpg")
    assert listed(tmp_path, "north-pier").survey.name == "north-pier"


@pytest.mark.parametrize("name", ["", "north pier", "a/b", "_locks", ".x", "survey=x", "x" * 101])
def test_a_name_no_partition_can_have_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot name a survey"):
        listed(tmp_path, name)


def test_local_places_are_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for uri, path in {
        "~/deck": tmp_path / "deck",
        "deck/./east/..": tmp_path / "deck",
        (tmp_path / "deck").as_uri(): tmp_path / "deck",
        f"{tmp_path}/deck/": tmp_path / "deck",
    }.items():
        storage, inside = Survey.parse(uri).open()
        assert isinstance(storage, fs.LocalFileSystem)
        assert inside == str(path)


@pytest.mark.parametrize("uri", ["ftp://host/deck", "https://host/deck", "C://deck"])
def test_an_unknown_scheme_is_a_usage_error(uri: str) -> None:
    with pytest.raises(UsageError, match="s3://BUCKET"):
        Survey.parse(uri)


def test_a_malformed_uri_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="not a valid URI"):
        Survey.parse("s3://inspections/deck?no_such_option=1")


# ---------------------------------------------------------------- local trees


def test_every_file_is_listed_with_its_size_and_time_sorted_by_path(tmp_path: Path) -> None:
    write(tmp_path / "span 2" / "ü.JPG", b"123")
    write(tmp_path / "span 10" / "b.jpg", b"")
    write(tmp_path / "a.jpg", b"12345")
    write(tmp_path / "notes.txt")
    os.utime(tmp_path / "a.jpg", ns=(0, 1_700_000_000_123_456_789))
    listing = listed(tmp_path)
    assert listing.files.schema == LISTING_SCHEMA
    assert listing.files["image"].to_pylist() == ["a.jpg", "notes.txt", "span 10/b.jpg", "span 2/ü.JPG"]
    assert listing.files["bytes"].to_pylist() == [5, 1, 0, 3]
    # Microseconds, cut and not rounded.
    assert listing.files["modified_at"][0].as_py() == datetime(2023, 11, 14, 22, 13, 20, 123456, tzinfo=UTC)
    assert (listing.hidden, listing.outside, listing.misnamed) == (0, 0, 0)


def test_a_file_uri_lists_like_its_path(tmp_path: Path) -> None:
    write(tmp_path / "deck 1" / "a.jpg")
    by_uri = listed((tmp_path / "deck 1").as_uri())
    assert by_uri == listed(tmp_path / "deck 1")
    assert by_uri.survey.uri == str(tmp_path / "deck 1")


def test_hidden_files_and_folders_are_counted_and_ignored(tmp_path: Path) -> None:
    write(tmp_path / "a.jpg")
    write(tmp_path / ".DS_Store")
    write(tmp_path / ".trash" / "b.jpg")
    write(tmp_path / ".trash" / "deep" / "c.jpg")
    write(tmp_path / "span" / "._d.jpg")
    listing = listed(tmp_path)
    assert listing.files["image"].to_pylist() == ["a.jpg"]
    assert listing.hidden == 4


def test_links_out_of_the_tree_are_counted_and_ignored(tmp_path: Path) -> None:
    survey = tmp_path / "bridge"
    write(survey / "a.jpg")
    write(tmp_path / "bridge-2" / "b.jpg")
    (survey / "folder").symlink_to(tmp_path / "bridge-2")
    (survey / "file.jpg").symlink_to(tmp_path / "bridge-2" / "b.jpg")
    (survey / "nowhere.jpg").symlink_to(tmp_path / "gone.jpg")
    (survey / "itself.jpg").symlink_to(survey / "itself.jpg")
    listing = listed(survey)
    assert listing.files["image"].to_pylist() == ["a.jpg"]
    assert listing.outside == 4


def test_links_within_the_tree_name_files_but_never_loop(tmp_path: Path) -> None:
    write(tmp_path / "span" / "a.jpg", b"12345")
    (tmp_path / "span" / "up").symlink_to(tmp_path)
    (tmp_path / "again").symlink_to(tmp_path / "span")
    (tmp_path / "best.jpg").symlink_to(Path("span") / "a.jpg")
    listing = listed(tmp_path)
    assert listing.files["image"].to_pylist() == ["best.jpg", "span/a.jpg"]
    assert listing.files["bytes"].to_pylist() == [5, 5]
    assert listing.outside == 0


def test_a_survey_may_itself_be_a_link(tmp_path: Path) -> None:
    write(tmp_path / "disk-4711" / "a.jpg")
    (tmp_path / "disk-4711" / "b.jpg").symlink_to(tmp_path / "disk-4711" / "a.jpg")
    (tmp_path / "bridge").symlink_to(tmp_path / "disk-4711")
    listing = listed(tmp_path / "bridge")
    assert listing.survey.name == "bridge"
    assert listing.files["image"].to_pylist() == ["a.jpg", "b.jpg"]


def test_names_that_are_not_utf8_are_counted_and_end_no_run(tmp_path: Path) -> None:
    write(tmp_path / "a.jpg")
    folder = os.fsencode(tmp_path)
    try:
        Path(os.fsdecode(folder + b"/br\xfccke.jpg")).write_bytes(b"x")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    Path(os.fsdecode(folder + b"/s\xfcd")).mkdir()
    Path(os.fsdecode(folder + b"/s\xfcd/b.jpg")).write_bytes(b"x")
    listing = listed(tmp_path)
    assert listing.files["image"].to_pylist() == ["a.jpg"]
    assert listing.misnamed == 2


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (10**12, datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)),
        (-(10**12), datetime(1, 1, 1, tzinfo=UTC)),
    ],
)
def test_a_time_outside_the_calendar_becomes_its_end(seconds: int, shown: datetime, tmp_path: Path) -> None:
    path = write(tmp_path / "a.jpg")
    os.utime(path, (seconds, seconds))
    if path.stat().st_mtime == seconds:
        assert listed(tmp_path).files["modified_at"].to_pylist() == [shown]
    else:  # this file system has a smaller calendar of its own
        found = _Found()
        found.add("a.jpg", 1, seconds * 10**9)
        assert found.table()["modified_at"].to_pylist() == [shown]


def test_a_survey_whose_path_is_not_utf8_is_a_usage_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = os.fsdecode(os.fsencode(tmp_path) + b"/s\xfcd")
    try:
        Path(folder).mkdir()
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    write(Path(folder) / "a.jpg")
    monkeypatch.chdir(folder)
    for uri in (folder, ".", f"file://{folder}", f"s3://inspections/{folder}"):
        with pytest.raises(UsageError, match=r"s\\udcfcd is not UTF-8.*link") as caught:
            listed(uri)
        str(caught.value).encode()
    (tmp_path / "south").symlink_to(folder)
    assert images(tmp_path / "south") == ["a.jpg"]


def test_folders_apart_are_no_part_of_the_survey(tmp_path: Path) -> None:
    write(tmp_path / "a.jpg")
    write(tmp_path / "report" / "b.parquet")
    write(tmp_path / "report-2" / "c.jpg")
    write(tmp_path / "models" / "walls" / "d.png")
    (tmp_path / "walls").symlink_to(tmp_path / "models")
    (tmp_path / "shown.png").symlink_to(tmp_path / "models" / "walls" / "d.png")
    (tmp_path.parent / "link").symlink_to(tmp_path)
    apart = [
        Location.parse(each)
        for each in (tmp_path / "report/", tmp_path.parent / "link" / "walls", tmp_path, "s3://b/report-2")
    ]
    for root in (tmp_path, tmp_path.parent / "link"):
        listing = list_survey(Survey.parse(root), apart)
        assert listing.files["image"].to_pylist() == ["a.jpg", "report-2/c.jpg"]
        assert listing.outside == 2
    assert images(tmp_path / "models") == ["walls/d.png"]


def test_a_survey_of_nothing_but_a_report_says_so(tmp_path: Path) -> None:
    write(tmp_path / "report" / "b.parquet")
    with pytest.raises(SurveyError, match="1 folders that hold the report or the models"):
        list_survey(Survey.parse(tmp_path), [Location.parse(tmp_path / "report")])


def test_pipes_and_sockets_are_no_photographs(tmp_path: Path) -> None:
    write(tmp_path / "a.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    assert images(tmp_path) == ["a.jpg"]


def test_a_listing_larger_than_a_chunk_is_complete_and_sorted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crackmodel.surveys.listing._CHUNK", 7)
    names = [f"{number:03}.jpg" for number in range(100)]
    for name in reversed(names):
        write(tmp_path / name, name.encode())
    listing = listed(tmp_path)
    assert listing.files["image"].to_pylist() == names
    assert set(listing.files["bytes"].to_pylist()) == {7}
    assert listing.files["image"].num_chunks == 1


# ---------------------------------------------------------------- what cannot be listed


def test_the_paths_of_a_survey_may_take_more_than_two_gibibytes(tmp_path: Path) -> None:
    # A real one takes 5 GB of memory; a column of plain strings ends there, and one of these does not.
    write(tmp_path / "deck" / "a.jpg")
    files = listed(tmp_path / "deck").files
    assert pa.types.is_large_string(files.schema.field("image").type)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(SurveyError, match=r"no folder .*bridge-8.* spelling"):
        listed(tmp_path / "bridge-8")


def test_a_file_is_no_survey(tmp_path: Path) -> None:
    with pytest.raises(SurveyError, match="is a file"):
        listed(write(tmp_path / "a.jpg"))


def test_an_empty_survey_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "span").mkdir()
    with pytest.raises(SurveyError, match="no files"):
        listed(tmp_path)


def test_a_survey_of_ignored_files_says_what_was_ignored(tmp_path: Path) -> None:
    write(tmp_path / ".a.jpg")
    (tmp_path / "link").symlink_to("/nowhere/b.jpg")
    with pytest.raises(SurveyError, match="1 hidden, 1 links out of the folder"):
        listed(tmp_path)


@contextmanager
def ordinary_user() -> Iterator[Path]:
    """Run as somebody whom permissions stop, in a folder that they may enter."""
    folder = Path(tempfile.mkdtemp(prefix="survey-"))
    folder.chmod(0o755)
    root = os.geteuid() == 0
    try:
        if root:
            os.seteuid(65534)
        yield folder
    finally:
        if root:
            os.seteuid(0)
        for path in [folder, *folder.iterdir()]:
            if not path.is_symlink():
                path.chmod(0o755)
        shutil.rmtree(folder)


@pytest.mark.parametrize("mode", [0o000, 0o400])
def test_an_unreadable_folder_is_named_with_the_remedy(mode: int) -> None:
    with ordinary_user() as survey:
        os.seteuid(os.getuid())
        write(survey / "a.jpg")
        write(survey / "closed" / "b.jpg")
        (survey / "closed").chmod(mode)
        if os.getuid() == 0:
            os.chown(survey / "closed", 65534, 65534)
            os.seteuid(65534)
        with pytest.raises(SurveyError, match=r"folder .*closed cannot be read .*permission"):
            listed(survey)


def test_a_survey_in_a_folder_that_nobody_may_enter_is_named() -> None:
    with ordinary_user() as folder:
        os.seteuid(os.getuid())
        write(folder / "closed" / "bridge-07" / "a.jpg")
        (folder / "closed").chmod(0o000)
        if os.getuid() == 0:
            os.seteuid(65534)
        with pytest.raises(SurveyError, match=r"bridge-07 cannot be read.*folder above it"):
            listed(folder / "closed" / "bridge-07")


def test_a_link_into_a_folder_that_nobody_may_enter_is_named() -> None:
    with ordinary_user() as survey:
        os.seteuid(os.getuid())
        write(survey / ".closed" / "a.jpg")
        (survey / "a.jpg").symlink_to(survey / ".closed" / "a.jpg")
        (survey / ".closed").chmod(0o000)
        if os.getuid() == 0:
            os.seteuid(65534)
        with pytest.raises(SurveyError, match=r"folder .*\.closed cannot be read"):
            listed(survey)


def test_a_path_that_is_too_long_for_the_disk_is_no_survey(tmp_path: Path) -> None:
    with pytest.raises(SurveyError, match=r"cannot be read.*too long"):
        listed(tmp_path / ("x" * 300))


def test_an_unreadable_hidden_folder_stops_nobody() -> None:
    with ordinary_user() as survey:
        os.seteuid(os.getuid())
        write(survey / "a.jpg")
        (survey / ".Trash-0").mkdir(mode=0o000)
        if os.getuid() == 0:
            os.seteuid(65534)
        assert images(survey) == ["a.jpg"]


# ---------------------------------------------------------------- object stores


class ObjectStore(BaseHTTPRequestHandler):
    """As much of the S3 protocol as listing needs, over a dictionary of keys and sizes."""

    keys: ClassVar[dict[str, int]] = {
        "2024/deck/a.jpg": 5,
        "2024/deck/span 2/b.jpg": 7,
        "2024/deck/.cache/c.jpg": 1,
        "2024/deck/span 2/.d.jpg": 1,
        "2024/deck-2/e.jpg": 1,
    }

    def do_HEAD(self) -> None:
        bucket, _, key = self.path[1:].partition("/")
        if not key and bucket == "inspections":
            self._answer(200, b"")
        elif key in self.keys:
            self._answer(200, b"", length=self.keys[key])
        else:
            self._answer(404, b"")

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        if parts.path.strip("/") != "inspections":
            self._answer(403, b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>")
            return
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter")
        contents, folders = "", set()
        for key, size in sorted(self.keys.items()):
            rest = key.removeprefix(prefix)
            if not key.startswith(prefix):
                continue
            if delimiter and delimiter in rest:
                folders.add(prefix + rest.partition(delimiter)[0] + delimiter)
            else:
                contents += (
                    f"<Contents><Key>{key}</Key><LastModified>2024-05-06T07:08:09.000Z</LastModified>"
                    f"<Size>{size}</Size></Contents>"
                )
        shared = "".join(
            f"<CommonPrefixes><Prefix>{name}</Prefix></CommonPrefixes>" for name in sorted(folders)
        )
        count = contents.count("<Key>") + len(folders)
        body = (
            '<?xml version="1.0"?><ListBucketResult><Name>inspections</Name>'
            f"<KeyCount>{count}</KeyCount><IsTruncated>false</IsTruncated>{contents}{shared}</ListBucketResult>"
        )
        self._answer(200, body.encode())

    def _answer(self, status: int, body: bytes, length: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An S3 endpoint on this machine, as the environment of the AWS tools names one."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), ObjectStore)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "inspector")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    yield "s3://inspections"
    server.shutdown()
    server.server_close()


def test_an_object_store_lists_like_a_folder(bucket: str) -> None:
    listing = listed(f"{bucket}/2024/deck/")
    assert listing.survey.name == "deck"
    assert listing.survey.uri == f"{bucket}/2024/deck"
    assert listing.files.schema == LISTING_SCHEMA
    assert listing.files["image"].to_pylist() == ["a.jpg", "span 2/b.jpg"]
    assert listing.files["bytes"].to_pylist() == [5, 7]
    assert listing.files["modified_at"][0].as_py() == datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)
    assert listing.hidden == 2


def test_a_report_in_the_survey_of_an_object_store_is_no_part_of_it(bucket: str) -> None:
    apart = [Location.parse(each) for each in (f"{bucket}/2024/deck/", "gs://inspections/2024/deck-2")]
    assert list_survey(Survey.parse(bucket), apart).files["image"].to_pylist() == ["2024/deck-2/e.jpg"]


def test_a_folder_with_a_space_in_an_object_store_is_found(bucket: str) -> None:
    assert images(f"{bucket}/2024/deck/span 2") == ["b.jpg"]


@pytest.mark.timeout(60)
@pytest.mark.parametrize("folder", ["", "/2024/deck", "/2024/deck/span 2"])
def test_a_folder_without_a_name_is_counted_and_does_not_hold_the_listing_up(
    bucket: str, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = images(bucket + folder)
    odd = {f"{folder}//f.jpg".removeprefix("/"): 1, f"{folder}/.cache//g.jpg".removeprefix("/"): 1}
    monkeypatch.setattr(ObjectStore, "keys", ObjectStore.keys | odd)
    listing = listed(bucket + folder)
    assert listing.files["image"].to_pylist() == plain
    assert listing.nameless == 1


@pytest.mark.timeout(60)
def test_a_survey_below_a_folder_without_a_name_says_why_it_is_empty(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ObjectStore, "keys", {"2024/deck//a.jpg": 1})
    with pytest.raises(SurveyError, match="1 folders without a name"):
        listed(f"{bucket}/2024/deck")


def test_a_whole_bucket_can_be_a_survey(bucket: str) -> None:
    assert images(bucket)[0] == "2024/deck-2/e.jpg"


def test_a_missing_folder_in_an_object_store_is_named(bucket: str) -> None:
    with pytest.raises(SurveyError, match=r"no s3://inspections/2023"):
        listed(f"{bucket}/2023")


def test_an_object_is_no_survey(bucket: str) -> None:
    with pytest.raises(SurveyError, match="is a file"):
        listed(f"{bucket}/2024/deck/a.jpg")


@pytest.mark.usefixtures("bucket")
def test_a_refused_bucket_names_the_credentials() -> None:
    with pytest.raises(SurveyError, match=r"s3://others/deck cannot be listed: .*credentials"):
        listed("s3://others/deck")


def test_opening_a_google_bucket_asks_nobody() -> None:
    storage, path = Survey.parse("gs://anonymous@inspections/2024/deck/").open()
    assert isinstance(storage, fs.GcsFileSystem)
    assert path == "inspections/2024/deck"


def test_a_listing_survives_a_pickle(tmp_path: Path) -> None:
    write(tmp_path / "a.jpg")
    listing = listed(tmp_path)
    again = pickle.loads(pickle.dumps(listing))
    assert again.files.equals(listing.files)
    assert isinstance(again.files, pa.Table)


def test_the_home_of_nobody_known_is_a_folder_that_is_not_there() -> None:
    with pytest.raises(SurveyError, match="There is no folder"):
        listed("~nobody-known/photos")
