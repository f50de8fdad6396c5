"""The way to a Redis: what it is, the connections to it, and the scripts that it runs."""
