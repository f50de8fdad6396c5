"""Reading from a Redis, and settling what was read."""
