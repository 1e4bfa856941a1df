"""Object stores: S3 and compatible ones, Google Cloud Storage, Azure.

Two libraries talk to a store: pyarrow reads and writes files, deltalake the report's log. By themselves they
read the environment differently and retry differently; here both get the same settings. Credentials stay
where the tools of AWS, Google and Azure keep them, and never pass through a URI.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final
from urllib.parse import parse_qsl, quote, unquote, urlsplit

import pyarrow as pa
from pyarrow import fs

from crackmodel.errors import UsageError

_OPTIONS: Final[Mapping[str, frozenset[str]]] = {
    "s3": frozenset({"region", "scheme", "endpoint_override"}),
    "gs": frozenset({"scheme", "endpoint_override", "retry_limit_seconds", "project_id"}),
    "abfs": frozenset(),
    "abfss": frozenset(),
}
"""Schemes, and what may stand behind the question mark: places and time limits, never keys."""

_EXAMPLES: Final = (
    "s3://BUCKET/FOLDER, gs://BUCKET/FOLDER or abfss://CONTAINER@ACCOUNT.dfs.core.windows.net/FOLDER"
)

_ATTEMPTS: Final = 6
"""Of one request, with the SDK's exponential back-off: 12 to 25 s until it gives up. With 10 it took 97 s,
with its own 3 a store that is busy for two seconds ends a run."""

CONNECTIONS: Final = 64
"""Requests that one process has open at the same time; pyarrow's client is as wide as its pool of threads."""

_CONNECT_SECONDS: Final = 5.0

_GCS_RETRIES: Final = "retry_limit_seconds=60"
"""Google's client retries for 15 minutes by default, long enough to look like a hang."""

_DELTA_RETRIES: Final = {
    "max_retries": "8",
    "retry_timeout": "25s",
    "connect_timeout": f"{_CONNECT_SECONDS:.0f}s",
}
"""deltalake's own is ten attempts and three minutes."""

_DEFAULT_REGION: Final = "us-east-1"
_URI_CHARACTERS: Final = ":/?#[]@!$&'()*+,;=%~"


@dataclass(frozen=True, slots=True)
class Store:
    """A folder of an object store.

    Attributes:
        filesystem: The pyarrow file system.
        path: The folder inside it, bucket first, without a slash at the end.
        delta_uri: The folder as deltalake takes it, without options.
        delta_options: The storage options that deltalake needs.
    """

    filesystem: fs.FileSystem
    path: str
    delta_uri: str
    delta_options: dict[str, str] = field(default_factory=dict)


def open_store(uri: str) -> Store:
    """Open a folder of an object store; nothing is read yet.

    S3's endpoint and region are, in this order: the URI's options `endpoint_override`, `scheme` and
    `region`; the variables `AWS_ENDPOINT_URL_S3` or `AWS_ENDPOINT_URL`, `AWS_REGION` or
    `AWS_DEFAULT_REGION`; Amazon's own, and the region that Amazon says the bucket is in.

    Args:
        uri: `s3://BUCKET/FOLDER`, `gs://BUCKET/FOLDER` or `abfss://CONTAINER@ACCOUNT.dfs.core.windows.net/FOLDER`.

    Raises:
        UsageError: It is none of these, names no bucket, or holds keys or options that do not belong there.
        OSError: Amazon did not answer which region the bucket is in.
    """
    parts = urlsplit(uri)
    options = check_uri(uri)
    bare = f"{parts.scheme}://{parts.netloc}{parts.path}".rstrip("/")
    if parts.scheme == "s3":
        bucket = parts.netloc
        endpoint, region = _s3_place(bucket, options)
        filesystem = _s3(endpoint, region, _aws_environment())
        return Store(
            filesystem, f"{bucket}{unquote(parts.path)}".rstrip("/"), bare, _s3_for_delta(endpoint, region)
        )
    if parts.scheme == "gs" and "retry_limit_seconds" not in options:
        uri += ("&" if parts.query else "?") + _GCS_RETRIES
    try:
        filesystem, path = fs.FileSystem.from_uri(quote(uri, safe=_URI_CHARACTERS))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise UsageError(f"{bare} is not a valid URI ({error}).", f"Write it as {_EXAMPLES}.") from None
    return Store(filesystem, path.rstrip("/"), bare.replace("://anonymous@", "://"), dict(_DELTA_RETRIES))


def check_uri(uri: str) -> dict[str, str]:
    """Check a URI and return its options; a URI with keys is refused.

    Raises:
        UsageError: As `open_store`.
    """
    parts = urlsplit(uri)
    bare = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    if parts.scheme not in _OPTIONS:
        raise UsageError(
            f"{bare} has the unknown scheme {parts.scheme}://.", f"Give a local path, or {_EXAMPLES}."
        )
    access = parts.netloc.rpartition("@")[0]
    if ":" in access or (access and parts.scheme == "s3"):
        raise UsageError(
            f"The URI {bare} was given with keys in it, where every list of processes shows them.",
            "Leave them out and put them where the tools of your cloud look: see docs/storage.md.",
        )
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    unknown = sorted(options.keys() - _OPTIONS[parts.scheme])
    if unknown or parts.fragment:
        known = ", ".join(sorted(_OPTIONS[parts.scheme])) or "none"
        raise UsageError(
            f"{bare} is not a valid URI: {', '.join(unknown) or '#'} means nothing there.",
            f"Options of {parts.scheme}:// are: {known}; write ? and # in names as %3F and %23.",
        )
    if not parts.netloc:
        raise UsageError(f"The address {uri!r} names no bucket.", f"Write it as {_EXAMPLES}.")
    return options


def _s3_place(bucket: str, options: Mapping[str, str]) -> tuple[str, str]:
    """Return a bucket's endpoint, empty for Amazon's, and its region."""
    environment = os.environ
    endpoint = environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL") or ""
    if override := options.get("endpoint_override"):
        endpoint = override if "://" in override else f"{options.get('scheme', 'https')}://{override}"
    region = options.get("region") or environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION")
    if not region:
        region = _DEFAULT_REGION if endpoint else _amazon_region(bucket)
    return endpoint.rstrip("/"), region


@lru_cache(maxsize=64)
def _amazon_region(bucket: str) -> str:
    return str(fs.resolve_s3_region(bucket))


def _aws_environment() -> tuple[tuple[str, str], ...]:
    """Return what a client depends on, so that a cached one is not used under other credentials."""
    return tuple(sorted((name, value) for name, value in os.environ.items() if name.startswith("AWS_")))


@lru_cache(maxsize=8)
def _s3(endpoint: str, region: str, _environment: tuple[tuple[str, str], ...]) -> fs.S3FileSystem:
    """Make a client; cached, because each looks up credentials and opens connections."""
    scheme, _, host = endpoint.rpartition("://")
    pa.set_io_thread_count(max(pa.io_thread_count(), CONNECTIONS))
    return fs.S3FileSystem(
        region=region,
        endpoint_override=host or None,
        scheme=scheme or "https",
        connect_timeout=_CONNECT_SECONDS,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=_ATTEMPTS),
        allow_delayed_open=True,  # one request for a small file where there would be three
    )


def _s3_for_delta(endpoint: str, region: str) -> dict[str, str]:
    options = {
        **_DELTA_RETRIES,
        "AWS_REGION": region,
        # deltalake looks into ~/.aws and at roles by itself only where the endpoint is Amazon's.
        "AWS_FORCE_CREDENTIAL_LOAD": "true",
    }
    if endpoint:
        options |= {
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_ALLOW_HTTP": str(endpoint.startswith("http://")).lower(),
        }
    return options
