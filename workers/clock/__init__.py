"""Clips, timelines and the aligned reading of streams."""
