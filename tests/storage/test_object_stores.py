"""Object stores: one address, one idea of endpoint and region, no keys where people see them."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from pyarrow import fs

from crackmodel.errors import UsageError
from crackmodel.storage.advice import advice, first_line
from crackmodel.storage.object_stores import open_store
from tests.object_store import BUCKET, KEY, SECRET, ObjectStore


def test_both_libraries_are_told_the_same_endpoint_and_region(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9000")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-3")
    store = open_store("s3://photos/night/report/")
    assert (store.path, store.delta_uri) == ("photos/night/report", "s3://photos/night/report")
    assert store.filesystem.region == store.delta_options["AWS_REGION"] == "eu-west-3"
    assert store.delta_options["AWS_ENDPOINT_URL"] == "http://127.0.0.1:9000"
    assert store.delta_options["AWS_ALLOW_HTTP"] == "true"


def test_the_uri_goes_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9000")
    monkeypatch.setenv("AWS_REGION", "eu-west-3")
    store = open_store("s3://photos/report?endpoint_override=s3.example.com&region=us-west-2")
    assert store.delta_uri == "s3://photos/report"
    assert store.delta_options["AWS_ENDPOINT_URL"] == "https://s3.example.com"
    assert store.delta_options["AWS_ALLOW_HTTP"] == "false"
    assert store.filesystem.region == store.delta_options["AWS_REGION"] == "us-west-2"


@pytest.mark.parametrize(
    "uri",
    [
        "s3://INSPECTOR:sesame@photos/deck",
        "abfss://photos:sesame@account.dfs.core.windows.net/deck",
        "abfss://photos@account.dfs.core.windows.net/deck?sas_token=sesame",
        "s3://photos/deck?secret_key=sesame",
    ],
)
def test_keys_in_an_address_are_refused_and_not_repeated(uri: str) -> None:
    with pytest.raises(UsageError) as refused:
        open_store(uri)
    assert "sesame" not in str(refused.value)
    assert "INSPECTOR" not in str(refused.value)


@pytest.mark.parametrize(
    "uri", ["s3://", "s3:///deck", "ftp://host/deck", "s3://photos/what?.jpg", "s3://photos/a#1"]
)
def test_what_is_no_address_is_a_usage_error(uri: str) -> None:
    with pytest.raises(UsageError, match="s3:"):
        open_store(uri)


def test_google_and_azure_go_the_same_way() -> None:
    google = open_store("gs://anonymous@photos/deck/")
    assert isinstance(google.filesystem, fs.GcsFileSystem)
    assert (google.path, google.delta_uri) == ("photos/deck", "gs://photos/deck")
    azure = open_store("abfss://photos@account.dfs.core.windows.net/2026/deck")
    assert isinstance(azure.filesystem, fs.AzureFileSystem)
    assert azure.path == "photos/2026/deck"
    assert azure.delta_uri == "abfss://photos@account.dfs.core.windows.net/2026/deck"


def test_both_libraries_find_the_keys_of_a_profile(
    object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(variable)
    credentials = tmp_path / "credentials"
    credentials.write_text(f"[bridges]\naws_access_key_id = {KEY}\naws_secret_access_key = {SECRET}\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(credentials))
    monkeypatch.setenv("AWS_PROFILE", "bridges")
    store = open_store(f"s3://{BUCKET}/table")
    write_deltalake(store.delta_uri, pa.table({"a": [1]}), storage_options=store.delta_options)
    assert store.filesystem.get_file_info(f"{store.path}/_delta_log").type == fs.FileType.Directory
    assert DeltaTable(store.delta_uri, storage_options=store.delta_options).version() == 0


def test_both_libraries_try_again_where_a_store_is_busy(object_store: ObjectStore) -> None:
    store = open_store(f"s3://{BUCKET}/table")
    write_deltalake(store.delta_uri, pa.table({"a": [1]}), storage_options=store.delta_options)
    object_store.busy = 3
    assert store.filesystem.get_file_info(store.path).type == fs.FileType.Directory
    assert object_store.refused == 3
    object_store.busy = 5
    assert DeltaTable(store.delta_uri, storage_options=store.delta_options).version() == 0
    assert object_store.refused == 8


@pytest.mark.parametrize(
    ("said", "understood"),
    [
        ("AWS Error NETWORK_CONNECTION during HeadObject operation: curlCode: 7", "nothing answers"),
        ("Generic S3 error\n ↳ 404 Not Found\n<Error><Code>NoSuchBucket</Code>", "no such bucket"),
        ("AWS Error UNKNOWN (HTTP status 503) during HeadObject operation", "busy"),
        ("AWS Error ACCESS_DENIED during HeadObject operation: No response body.", "denied"),
        ("Generic S3 error ↳ 403 Forbidden <Code>SignatureDoesNotMatch</Code>", "does not know"),
        ("AWS Error UNKNOWN (HTTP status 301) during HeadObject operation", "another region"),
        ("Generic S3 error ↳ <Code>ExpiredToken</Code>", "expired"),
    ],
)
def test_a_complaint_is_understood(said: str, understood: str) -> None:
    found = advice(OSError(said))
    assert found is not None
    assert understood in found[0]


def test_a_disk_is_not_taken_for_a_store() -> None:
    assert advice(OSError("/report/survey=deck/part-403 Span.parquet: Access Denied")) is None


def test_only_the_first_line_of_a_message_is_shown() -> None:
    assert first_line(OSError("Json error.\n   0: <unknown>\n   1: <unknown>")) == "Json error"
    assert first_line(ValueError()) == "ValueError"
    assert first_line(OSError(13, "Permission denied", "/report/a")) == "Permission denied"
