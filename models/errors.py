"""What can go wrong with a model, in words for the person who chose it."""

from takestream.errors import ErrorKind, TakestreamError


class ModelError(TakestreamError, ValueError):
    """An encoder that cannot be used as asked.

    The message names the encoder or its weights, says what is wrong and what to do next. Its `kind`
    is the storage's where weights cannot be fetched.
    """

    kind = ErrorKind.MODEL


class QueryError(ValueError):
    """A text or a picture that cannot be searched for.

    The message says what is wrong with it and what is taken instead.
    """
