"""Filters: a subscription, or a group, gets what its condition matches and nothing else."""
