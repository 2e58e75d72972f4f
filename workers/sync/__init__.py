"""Synchronisation measured: by clocks, by what cameras heard, and by what they saw change."""
