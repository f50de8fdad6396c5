"""What the conformance cases stand on: the engine under test, the two clients as one, and other processes."""
