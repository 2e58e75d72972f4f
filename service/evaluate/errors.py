"""Why features cannot be judged on some labels."""

from importlib.util import find_spec

from takestream.errors import ErrorKind, TakestreamError


class EvaluationRefused(TakestreamError, ValueError):
    """There are too few takes, groups or classes, or no labels; the message has the counts."""

    kind = ErrorKind.INVALID


class NoScikitLearn(TakestreamError, ImportError):
    """scikit-learn is not installed."""

    kind = ErrorKind.PACKAGE


def need_scikit_learn() -> None:
    """Raise NoScikitLearn where it is not installed."""
    if find_spec("sklearn") is None:
        raise NoScikitLearn(
            "evaluate needs scikit-learn, which is not installed: pip install scikit-learn"
        )
