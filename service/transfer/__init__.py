"""Features out of stores and into them: segments pooled, official files written and read."""
