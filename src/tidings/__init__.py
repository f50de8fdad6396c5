"""Publish-subscribe that starts with no server and grows onto the broker you already run.

The names a program needs; everything else is reached through them. Importing this loads no driver and no event loop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tidings.errors import (
    BusBusy,
    Closed,
    DamagedData,
    EngineError,
    GroupNotFound,
    IncompatibleFormat,
    InvalidOption,
    InvalidPattern,
    InvalidTopic,
    InvalidURL,
    LeaseLost,
    MessageTooLarge,
    PublishFailed,
    PublishUnknown,
    StorageFull,
    StorageUnavailable,
    TidingsError,
    TopicExists,
    TopicNotFound,
    UnencodableData,
    UnsupportedFeature,
    UsageError,
)

if TYPE_CHECKING:
    from tidings.client.aio.client import AsyncClient
    from tidings.client.aio.delivery import AsyncDelivery
    from tidings.client.aio.listener import AsyncListener
    from tidings.client.aio.subscription import AsyncSubscription
    from tidings.client.blocking.client import Client
    from tidings.client.blocking.delivery import Delivery
    from tidings.client.blocking.listener import Listener
    from tidings.client.blocking.subscription import Subscription
    from tidings.client.pubsub import PubSub
    from tidings.model.message import Message, Receipt
    from tidings.model.options import Durability, TopicOptions

__version__ = "0.1.0"

_LAZY = {
    "AsyncClient": "tidings.client.aio.client",
    "AsyncDelivery": "tidings.client.aio.delivery",
    "AsyncListener": "tidings.client.aio.listener",
    "AsyncSubscription": "tidings.client.aio.subscription",
    "Client": "tidings.client.blocking.client",
    "Delivery": "tidings.client.blocking.delivery",
    "Durability": "tidings.model.options",
    "Listener": "tidings.client.blocking.listener",
    "Message": "tidings.model.message",
    "PubSub": "tidings.client.pubsub",
    "Receipt": "tidings.model.message",
    "Subscription": "tidings.client.blocking.subscription",
    "TopicOptions": "tidings.model.options",
}

__all__ = [
    "AsyncClient",
    "AsyncDelivery",
    "AsyncListener",
    "AsyncSubscription",
    "BusBusy",
    "Client",
    "Closed",
    "DamagedData",
    "Delivery",
    "Durability",
    "EngineError",
    "GroupNotFound",
    "IncompatibleFormat",
    "InvalidOption",
    "InvalidPattern",
    "InvalidTopic",
    "InvalidURL",
    "LeaseLost",
    "Listener",
    "Message",
    "MessageTooLarge",
    "PubSub",
    "PublishFailed",
    "PublishUnknown",
    "Receipt",
    "StorageFull",
    "StorageUnavailable",
    "Subscription",
    "TidingsError",
    "TopicExists",
    "TopicNotFound",
    "TopicOptions",
    "UnencodableData",
    "UnsupportedFeature",
    "UsageError",
]


def __getattr__(name: str) -> Any:
    """Load a name when it is first asked for: a blocking program never imports asyncio, and a help text nothing."""
    if name not in _LAZY:
        raise AttributeError(f"module 'tidings' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
