"""Jobs: their records, who runs them, and where they can be asked for."""
