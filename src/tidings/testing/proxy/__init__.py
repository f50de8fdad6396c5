"""A TCP proxy on which the network goes wrong when a test says so."""

from tidings.testing.proxy.connection import Direction
from tidings.testing.proxy.proxy import FaultProxy

__all__ = ["Direction", "FaultProxy"]
