"""The part of a service that owns the workers."""
