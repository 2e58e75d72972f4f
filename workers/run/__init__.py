"""A job and its units: recipe, plan, pool, workers."""
