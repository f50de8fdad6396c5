"""Publish-subscribe that starts with no server and grows onto the broker you already run.

The names a program needs; everything else is reached through them. Importing this loads no driver and no event loop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tidings.errors import (
    BrokerRefused,
    BrokerUnavailable,
    BusBusy,
    Closed,
    DamagedData,
    DecompressionBomb,
    EngineError,
    GroupExists,
    GroupNotFound,
    IncompatibleFormat,
    IncompatibleSchema,
    InvalidFilter,
    InvalidOption,
    InvalidPattern,
    InvalidStatement,
    InvalidTopic,
    InvalidURL,
    LeaseLost,
    MessageTooLarge,
    PackageMissing,
    PublishFailed,
    PublishUnknown,
    QueryTooLarge,
    SchemaMismatch,
    StorageFull,
    StorageUnavailable,
    TidingsError,
    TooManySubscribers,
    TopicExists,
    TopicFull,
    TopicNotFound,
    UnencodableData,
    UnreadableData,
    Unroutable,
    UnsupportedFeature,
    UsageError,
)

if TYPE_CHECKING:
    from tidings.client.aio.client import AsyncClient
    from tidings.client.aio.dead_letters import AsyncDeadLetters, AsyncDeadMessage
    from tidings.client.aio.delivery import AsyncDelivery
    from tidings.client.aio.listener import AsyncListener
    from tidings.client.aio.subscription import AsyncSubscription
    from tidings.client.aio.transaction import AsyncTransaction
    from tidings.client.blocking.client import Client
    from tidings.client.blocking.dead_letters import DeadLetters, DeadMessage
    from tidings.client.blocking.delivery import Delivery
    from tidings.client.blocking.listener import Listener
    from tidings.client.blocking.subscription import Subscription
    from tidings.client.blocking.transaction import Transaction
    from tidings.client.pubsub import PubSub
    from tidings.client.tables.table import Table
    from tidings.exchange.aio import AsyncExchange
    from tidings.exchange.blocking import Exchange
    from tidings.model.capability import Capability
    from tidings.model.compression import Compression
    from tidings.model.dead_letter import DeadLetter
    from tidings.model.message import Message, Receipt
    from tidings.model.options import Durability, Guarantee, Overflow, TopicOptions
    from tidings.spi import Gap, GroupInfo, Health, TopicInfo, TopicStatistics

__version__ = "0.1.0"

_LAZY = {
    "AsyncExchange": "tidings.exchange.aio",
    "Exchange": "tidings.exchange.blocking",
    "AsyncClient": "tidings.client.aio.client",
    "AsyncDeadLetters": "tidings.client.aio.dead_letters",
    "AsyncDeadMessage": "tidings.client.aio.dead_letters",
    "AsyncDelivery": "tidings.client.aio.delivery",
    "AsyncListener": "tidings.client.aio.listener",
    "AsyncSubscription": "tidings.client.aio.subscription",
    "AsyncTransaction": "tidings.client.aio.transaction",
    "Capability": "tidings.model.capability",
    "Client": "tidings.client.blocking.client",
    "Compression": "tidings.model.compression",
    "DeadLetter": "tidings.model.dead_letter",
    "DeadLetters": "tidings.client.blocking.dead_letters",
    "DeadMessage": "tidings.client.blocking.dead_letters",
    "Delivery": "tidings.client.blocking.delivery",
    "Durability": "tidings.model.options",
    "Gap": "tidings.spi",
    "GroupInfo": "tidings.spi",
    "Guarantee": "tidings.model.options",
    "Health": "tidings.spi",
    "Listener": "tidings.client.blocking.listener",
    "Message": "tidings.model.message",
    "Overflow": "tidings.model.options",
    "PubSub": "tidings.client.pubsub",
    "Receipt": "tidings.model.message",
    "Subscription": "tidings.client.blocking.subscription",
    "Table": "tidings.client.tables.table",
    "TopicInfo": "tidings.spi",
    "TopicOptions": "tidings.model.options",
    "TopicStatistics": "tidings.spi",
    "Transaction": "tidings.client.blocking.transaction",
}

__all__ = [
    "AsyncClient",
    "AsyncDeadLetters",
    "AsyncDeadMessage",
    "AsyncDelivery",
    "AsyncExchange",
    "AsyncListener",
    "AsyncSubscription",
    "AsyncTransaction",
    "BrokerRefused",
    "BrokerUnavailable",
    "BusBusy",
    "Capability",
    "Client",
    "Closed",
    "Compression",
    "DamagedData",
    "DeadLetter",
    "DeadLetters",
    "DeadMessage",
    "DecompressionBomb",
    "Delivery",
    "Durability",
    "EngineError",
    "Exchange",
    "Gap",
    "GroupExists",
    "GroupInfo",
    "GroupNotFound",
    "Guarantee",
    "Health",
    "IncompatibleFormat",
    "IncompatibleSchema",
    "InvalidFilter",
    "InvalidOption",
    "InvalidPattern",
    "InvalidStatement",
    "InvalidTopic",
    "InvalidURL",
    "LeaseLost",
    "Listener",
    "Message",
    "MessageTooLarge",
    "Overflow",
    "PackageMissing",
    "PubSub",
    "PublishFailed",
    "PublishUnknown",
    "QueryTooLarge",
    "Receipt",
    "SchemaMismatch",
    "StorageFull",
    "StorageUnavailable",
    "Subscription",
    "Table",
    "TidingsError",
    "TooManySubscribers",
    "TopicExists",
    "TopicFull",
    "TopicInfo",
    "TopicNotFound",
    "TopicOptions",
    "TopicStatistics",
    "Transaction",
    "UnencodableData",
    "UnreadableData",
    "Unroutable",
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
