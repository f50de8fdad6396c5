"""Benchmarks: programs that print our figures as ratios to a reference measured in the same run."""
