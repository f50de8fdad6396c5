"""How long a test waits for another program."""

SECONDS = 25.0
"""For one line or message: the programs pause for 3 s at most, and a loaded machine takes its time to start them."""
