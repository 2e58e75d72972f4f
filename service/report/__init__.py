"""What a person or a script is shown of a run, a job and a store."""
