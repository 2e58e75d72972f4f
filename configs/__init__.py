"""The schema of every setting, and the presets."""
