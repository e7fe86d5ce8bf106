"""What an object store's errors mean: pass by themselves, are about one object, or end the run."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.errors import StorageUnavailable, one_line

_PASSING_CODES = frozenset(
    {
        "BandwidthLimitExceeded",
        "ConditionalRequestConflict",
        "InternalError",
        "OperationAborted",
        "PriorRequestNotComplete",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "RequestTimeout",
        "RequestTimeoutException",
        "ServiceUnavailable",
        "SlowDown",
        "Throttled",
        "Throttling",
        "ThrottlingException",
        "TooManyRequests",
        "TooManyRequestsException",
        "TransactionInProgressException",
    }
)
_PASSING_STATUSES = frozenset({408, 429, 500, 502, 503, 504, 509})

_NOT_WRITTEN = frozenset({"ConditionalRequestConflict", "OperationAborted", "SlowDown"})
"""Codes of passing errors after which it is certain that nothing was written."""

UNFIT_NAMES = frozenset({"InvalidObjectName", "KeyTooLong", "KeyTooLongError", "XMinioInvalidObjectName"})
"""Codes of stores that take no object of this name."""

_ADVICE: Mapping[str, str] = {
    "InvalidAccessKeyId": "the access key is unknown there; check AWS_ACCESS_KEY_ID, or AWS_PROFILE",
    "SignatureDoesNotMatch": "the secret key is wrong; check AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
    "ExpiredToken": "the credentials have expired; log in again",
    "ExpiredTokenException": "the credentials have expired; log in again",
    "InvalidToken": "the session token is not valid; check AWS_SESSION_TOKEN, or log in again",
    "TokenRefreshRequired": "the credentials have expired; log in again",
    "RequestTimeTooSkewed": "the clocks of this machine and of the storage differ; set this machine's",
    "RequestExpired": "the clocks of this machine and of the storage differ; set this machine's",
    "NoSuchBucket": "there is no such bucket; make it, or name another",
    "InvalidBucketName": "no bucket can have this name; name another",
    "PermanentRedirect": "the bucket is in another region; set AWS_DEFAULT_REGION",
    "TemporaryRedirect": "the bucket is in another region; set AWS_DEFAULT_REGION",
    "IllegalLocationConstraintException": "the bucket is in another region; set AWS_DEFAULT_REGION",
    "AuthorizationHeaderMalformed": "the bucket is in another region; set AWS_DEFAULT_REGION",
    "AllAccessDisabled": "access to the bucket is disabled",
    "AccountProblem": "there is a problem with the account",
    "QuotaExceeded": "the quota is used up; make room and try again",
    "EntityTooLarge": "the object is larger than the storage takes",
    "InsufficientCapacity": "the storage is full; make room and try again",
    "UserSuspended": "the account is suspended",
}

_REGION_HEADER = "x-amz-bucket-region"
"""With it AWS tells where a bucket is; no web server does."""

_NO_CREDENTIALS = (
    "there are no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or AWS_PROFILE,"
    " or give the machine a role"
)


def status_of(error: Exception) -> int:
    """The HTTP status of an answer; 0 where there was none."""
    response = getattr(error, "response", None) or {}
    return int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def code_of(error: Exception) -> str:
    """The store's code of an error; "" where there was no answer, or one without a code."""
    code = str((getattr(error, "response", None) or {}).get("Error", {}).get("Code", ""))
    return "" if code.isdigit() else code


def _is_redirect(error: Exception) -> bool:
    """Whether an answer sends us elsewhere."""
    return 300 <= status_of(error) < 400 and status_of(error) != 304


def _headers_of(error: Exception) -> Mapping[str, str]:
    response = getattr(error, "response", None) or {}
    headers: Mapping[str, str] = response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    return headers


class DamagedTransfer(Exception):
    """What came is not what was sent; worth another try."""


class WrongContent(DamagedTransfer):
    """What came is as long as it should be, but does not have the checksum that the store tells."""

    def __init__(self) -> None:
        super().__init__("what comes has another checksum than the storage tells")


def is_passing(error: Exception) -> bool:
    """Whether the same request may well succeed a little later."""
    from botocore import exceptions as boto
    from urllib3.exceptions import HTTPError

    if isinstance(error, boto.ClientError):
        return code_of(error) in _PASSING_CODES or status_of(error) in _PASSING_STATUSES
    if isinstance(error, boto.SSLError):
        return "CERTIFICATE_VERIFY_FAILED" not in str(error)
    broken = (
        boto.HTTPClientError,
        boto.ConnectionError,
        boto.IncompleteReadError,
        boto.FlexibleChecksumError,
        HTTPError,
        ConnectionError,
        TimeoutError,
        DamagedTransfer,
    )
    return isinstance(error, broken) or type(error).__name__ == "ResponseParserError"


def may_have_written(error: Exception) -> bool:
    """Whether a write that failed for a passing reason may have been done all the same."""
    return code_of(error) not in _NOT_WRITTEN


def reason_of(error: Exception) -> str:
    """An error in a few words."""
    from botocore import exceptions as boto

    if isinstance(error, boto.ClientError):
        elsewhere = _headers_of(error).get("location", "") if _is_redirect(error) else ""
        redirect = f"it redirects to {one_line(elsewhere.partition('?')[0])[:200]}" if elsewhere else ""
        return code_of(error) or redirect or f"HTTP status {status_of(error)}"
    if isinstance(error, DamagedTransfer):
        return str(error)
    known: tuple[tuple[type[Exception], str], ...] = (
        (boto.ConnectTimeoutError, "no connection in time"),
        (boto.ReadTimeoutError, "no answer in time"),
        (boto.ConnectionClosedError, "connection closed"),
        (boto.IncompleteReadError, "answers break off"),
        (boto.ResponseStreamingError, "answers break off"),
        (boto.ProxyConnectionError, "the proxy cannot be reached"),
        (boto.EndpointConnectionError, "no connection"),
    )
    for kind, words in known:
        if isinstance(error, kind):
            return words
    if isinstance(error, boto.SSLError) and "WRONG_VERSION_NUMBER" in str(error):
        return "no TLS there; is it http:// and not https://?"
    return one_line(" ".join(str(error).split()))[:200] or type(error).__name__


def not_s3(where: str, endpoint: str, reason: str) -> str:
    """What to tell when something else answers in place of an object store."""
    return f"{where}: {endpoint} does not answer as S3 does ({reason}); check AWS_ENDPOINT_URL"


def refusal_as_a_whole(error: Exception, where: str, endpoint: str) -> StorageUnavailable | None:
    """What to tell of an error that any other request would meet as well; None for errors of one object."""
    from botocore import exceptions as boto

    if isinstance(error, boto.ClientError):
        code = code_of(error)
        advice = _ADVICE.get(code)
        if advice is None and _is_redirect(error):
            if not code and _REGION_HEADER not in _headers_of(error):
                return StorageUnavailable(not_s3(where, endpoint, reason_of(error)))
            advice = _ADVICE["PermanentRedirect"]
        return None if advice is None else StorageUnavailable(f"{where}: {advice}")
    if isinstance(error, boto.PartialCredentialsError):
        return StorageUnavailable(f"{where}: half of the credentials is missing; {_half(error)}")
    if isinstance(error, boto.NoCredentialsError | boto.NoAuthTokenError):
        return StorageUnavailable(f"{where}: {_NO_CREDENTIALS}")
    if isinstance(error, boto.ParamValidationError) and "bucket name" in str(error):
        return StorageUnavailable(f"{where}: {_ADVICE['InvalidBucketName']}")
    if isinstance(error, boto.SSLError):
        return StorageUnavailable(
            f"{where}: the certificate of {endpoint} is not trusted; set AWS_CA_BUNDLE to its authority's"
        )
    if isinstance(error, ValueError) and str(error).startswith("Invalid endpoint"):
        named = reason_of(error).removeprefix("Invalid endpoint: ").rpartition("@")[2]  # no user, no password
        return StorageUnavailable(
            f"{where}: invalid endpoint {named}; check AWS_ENDPOINT_URL, which begins with http:// or https://"
        )
    if isinstance(error, boto.BotoCoreError | ValueError):
        return StorageUnavailable(f"{where}: {reason_of(error)}")
    return None


def _half(error: Exception) -> str:
    missing = getattr(error, "kwargs", {}).get("cred_var", "")
    names = {"aws_access_key_id": "AWS_ACCESS_KEY_ID", "aws_secret_access_key": "AWS_SECRET_ACCESS_KEY"}
    return f"set {names.get(missing, missing or 'both AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY')}"
