"""What can go wrong with a model, in words for the person who chose it."""


class ModelError(ValueError):
    """An encoder that cannot be used as asked.

    The message names the encoder or its weights, says what is wrong and what to do next.
    """


class QueryError(ValueError):
    """A text or a picture that cannot be searched for.

    The message says what is wrong with it and what is taken instead.
    """
