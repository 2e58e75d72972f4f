"""Features on demand: from a request to an answer."""
