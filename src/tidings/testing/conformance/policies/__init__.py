"""The cases about what a topic's options and a publish's parameters promise, a file for each kind of policy."""
