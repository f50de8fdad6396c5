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
        self.listening = asyncio.Event()

    async def call(self, method: str, params: dict[str, Any], timeout: float = 5.0) -> Any:
        """Make RPC call"""
        request_id = str(uuid.uuid4())
        # Set up reply handler
        reply_future = asyncio.get_running_loop().create_future()
        self.pending_requests[request_id] = reply_future
        # Publish request
        request = {"id": request_id, "method": method, "params": params, "reply_to": self.reply_topic}
        await self.client.publish("rpc_requests", request, ttl_seconds=timeout, durability="os")
        # Wait for reply
        try:
            return await asyncio.wait_for(reply_future, timeout)
        finally:
            del self.pending_requests[request_id]

    async def listen_for_replies(self) -> None:
        """Listen for RPC replies"""
        async with self.client.subscribe(self.reply_topic) as sub:
            self.listening.set()
            async for message in sub:
                request_id = message["request_id"]
                if request_id in self.pending_requests:
                    self.pending_requests[request_id].set_result(message["result"])


async def serve(client: AsyncClient, ready: asyncio.Event) -> None:
    """Answer requests"""
    async with client.subscribe("rpc_requests") as sub:
        ready.set()
        async for request in sub:
            result = request["params"]["a"] + request["params"]["b"]
            await client.publish(request["reply_to"], {"request_id": request["id"], "result": result}, durability="os")


async def main() -> None:
    async with AsyncClient() as client:
        rpc, ready = RPCClient(client), asyncio.Event()
        tasks = [asyncio.create_task(serve(client, ready)), asyncio.create_task(rpc.listen_for_replies())]
        await ready.wait()
        await rpc.listening.wait()
        print("2 + 3 =", await rpc.call("add", {"a": 2, "b": 3}))
        answers = await asyncio.gather(*(rpc.call("add", {"a": 10 * i, "b": i}) for i in range(1, 4)))
        print("at once:", *answers)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await client.drop_topic(rpc.reply_topic)


if __name__ == "__main__":
    asyncio.run(main())
