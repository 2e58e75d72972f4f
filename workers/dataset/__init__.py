"""Data sets: their takes and streams, and where the objects are."""
