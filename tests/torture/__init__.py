"""Jobs whose processes are killed at random moments, then run again until they are complete."""
