"""From bytes to samples: read by range, index, decode."""
