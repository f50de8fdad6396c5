"""Request and reply: remote calls over two topics, one of them the caller's own.

Run: python examples/patterns/request_reply.py
"""

import asyncio
import uuid
from typing import Any

from tidings import AsyncClient


class RPCClient:
    def __init__(self, client: AsyncClient) -> None:
        self.client = client
        self.pending_requests: dict[str, asyncio.Future[Any]] = {}
        self.reply_topic = f"replies_{uuid.uuid4()}"

    async def call(self, method: str, params: dict[str, Any], timeout: float = 5.0) -> Any:
        """Make RPC call"""
        request_id = str(uuid.uuid4())
        # Set up reply handler
        reply_future = asyncio.get_running_loop().create_future()
        self.pending_requests[request_id] = reply_future
        # Publish request
        await self.client.publish(
            "rpc_requests",
            {"id": request_id, "method": method, "params": params, "reply_to": self.reply_topic},
            ttl_seconds=timeout,  # nobody waits any longer
            durability="os",
        )
        # Wait for reply
        try:
            return await asyncio.wait_for(reply_future, timeout)
        finally:
            del self.pending_requests[request_id]

    def on_reply(self, topic: str, reply: dict[str, Any]) -> None:
        """Handle RPC replies"""
        request_id = reply["request_id"]
        if request_id in self.pending_requests:
            self.pending_requests[request_id].set_result(reply["result"])


async def serve(client: AsyncClient, request: dict[str, Any]) -> None:
    """Answer one request"""
    result = request["params"]["a"] + request["params"]["b"]
    await client.publish(request["reply_to"], {"request_id": request["id"], "result": result}, durability="os")


async def main() -> None:
    async with AsyncClient() as client:
        rpc = RPCClient(client)
        server = await client.listen("rpc_requests", lambda topic, request: serve(client, request))
        replies = await client.listen(rpc.reply_topic, rpc.on_reply)
        async with server, replies:
            print("2 + 3 =", await rpc.call("add", {"a": 2, "b": 3}))
            answers = await asyncio.gather(*(rpc.call("add", {"a": 10 * i, "b": i}) for i in range(1, 4)))
            print("at once:", *answers)
        await client.drop_topic(rpc.reply_topic)


if __name__ == "__main__":
    asyncio.run(main())
