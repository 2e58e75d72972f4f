"""What an answer of S3 says, as botocore keeps it in its errors; botocore itself is not loaded."""

from typing import Any


def s3_answer(error: BaseException) -> tuple[str, int] | None:
    """Code and HTTP status of a botocore ClientError, which is slow to import for a look."""
    answer = getattr(error, "response", None)
    if not isinstance(answer, dict) or not isinstance(answer.get("Error"), dict):
        return None
    status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return str(answer["Error"].get("Code", "")), int(status)


def is_elsewhere(error: BaseException) -> bool:
    """Whether a bucket is in another region than the request was for, and says not in which.

    Where an answer names the region, botocore asks there. A redirection that names none it follows
    round and round, until Python ends it.
    """
    code, status = s3_answer(error.__cause__ or error) or ("", 0)
    wrong = code == "AuthorizationHeaderMalformed" and "region" in str(error).lower()
    return wrong or status == 301 or isinstance(error, RecursionError)


def retry_after(error: BaseException) -> float:
    """Seconds that a throttling answer asks to wait; a date, as few storages send, counts as 0."""
    answer: Any = getattr(error.__cause__ or error, "response", None)
    headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}) if answer else {}
    asked = str(headers.get("retry-after", ""))
    return float(asked) if asked.isdecimal() else 0.0
