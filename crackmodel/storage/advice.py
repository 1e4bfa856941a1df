"""What a failing store or disk means in plain words, and what to do about it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from crackmodel.errors import CrackmodelError

_COLOURS: Final = re.compile(r"\x1b\[[0-9;]*m")

_CHECK: Final = "Check the bucket's name, the credentials and the network: see docs/storage.md."

_ADVICE: Final[tuple[tuple[re.Pattern[str], str, str], ...]] = (
    (
        re.compile(r"no credentials|credential provider was not enabled", re.IGNORECASE),
        "no credentials were found",
        "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or give the machine a role: "
        "see docs/storage.md.",
    ),
    (
        re.compile(r"ExpiredToken|TokenRefreshRequired|EXPIRED_TOKEN", re.IGNORECASE),
        "the temporary credentials have expired",
        "Renew them and run the same command again; what was committed stays.",
    ),
    (
        re.compile(
            r"InvalidAccessKeyId|SignatureDoesNotMatch|INVALID_ACCESS_KEY_ID|INVALID_SIGNATURE|SIGNATURE_DOES"
        ),
        "the store does not know these credentials",
        "Check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE and ~/.aws/credentials: "
        "see docs/storage.md.",
    ),
    (
        re.compile(
            r"ACCESS_DENIED|AccessDenied|Access Denied|necessary privileges|\b40[13]\b|PermissionDenied"
        ),
        "access was denied",
        "Check that the credentials are the right ones and may do what docs/storage.md lists under "
        "'Least privileges'.",
    ),
    (
        re.compile(r"NO_SUCH_BUCKET|NoSuchBucket|bucket does not exist|Bucket '.*' not found"),
        "there is no such bucket",
        "Check the bucket's name, and AWS_ENDPOINT_URL; buckets are not made by crackmodel.",
    ),
    (
        re.compile(
            r"PermanentRedirect|PERMANENT_REDIRECT|AuthorizationHeaderMalformed|HTTP status 301|\b301 "
        ),
        "the bucket is in another region",
        "Set AWS_REGION to the bucket's region.",
    ),
    (
        re.compile(
            r"NETWORK_CONNECTION|Couldn't|Could not (connect|resolve)|client error \(Connect\)|dns error"
            r"|error sending request"
        ),
        "nothing answers there",
        "Check the network and AWS_ENDPOINT_URL, such as https://s3.example.com or http://127.0.0.1:9000.",
    ),
    (
        re.compile(
            r"SLOW_DOWN|SlowDown|SERVICE_UNAVAILABLE|HTTP status (429|5\d\d)|\b(429|50[0234]) [A-Z]|timed out"
        ),
        "the store is too busy or failing, after several attempts",
        "Run the same command again later; what was committed stays and is not scored twice.",
    ),
)


_FROM_A_STORE: Final = re.compile(
    r"AWS Error|Generic (S3|GCS|MicrosoftAzure)|HTTP error|Server returned non-2xx|no credentials found"
    r"|google::cloud|Azure"
)
"""A disk's error must not be taken for a store's because a path has 403 in it."""


def advice(error: Exception) -> tuple[str, str] | None:
    """Explain a usual error of a store's client; None for any other.

    The client's own words may hold half of a request with its keys, and do not belong in a log.

    Args:
        error: What pyarrow or deltalake raised.

    Returns:
        A clause without capital and full stop, and a sentence.
    """
    text = str(error)
    if not _FROM_A_STORE.search(text):
        return None
    for pattern, why, what_to_do in _ADVICE:
        if pattern.search(text):
            return why, what_to_do
    return None


@contextmanager
def raised_as(
    kind: type[CrackmodelError], problem: str, otherwise: str = _CHECK, *also: type[Exception]
) -> Iterator[None]:
    """Raise a storage failure as an error of the caller's kind.

    Args:
        kind: The error's class.
        problem: What cannot be done, a clause without a full stop; the reason is added behind a colon.
        otherwise: What to do where the error itself suggests nothing.
        also: Kinds of failure besides OSError.
    """
    kinds: tuple[type[Exception], ...] = (OSError, *also)
    try:
        yield
    except kinds as error:
        raise kind(f"{problem}: {first_line(error)}.", remedy(error, otherwise)) from error


def first_line(error: Exception) -> str:
    """Say what is wrong on one line, without a full stop.

    deltalake draws a tree from the outermost layer to the innermost, and may print the store's answer
    below it; the innermost says most, and the answer does not belong in a log.
    """
    if known := advice(error):
        return known[0]
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return error.strerror  # without the path: the caller names it
    lines = [_COLOURS.sub("", line).strip() for line in str(error).strip().splitlines()]
    if not lines:
        return type(error).__name__
    layers = [line.lstrip("↳ ") for line in lines if line.startswith("↳") and "<" not in line]
    return (layers[-1] if layers else lines[0]).rstrip(". ")


def remedy(error: Exception, otherwise: str) -> str:
    """Say what to do about a failure; `otherwise` where it is none of the usual."""
    known = advice(error)
    return known[1] if known else otherwise
