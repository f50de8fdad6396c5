"""The engine for Redis."""
