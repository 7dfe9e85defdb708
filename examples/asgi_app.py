"""A web application of asyncio's in three workers, of which exactly one does the job.

    pip install fastapi uvicorn
    uvicorn --app-dir examples --workers 3 asgi_app:app

Then `kill -9` the worker that works, and watch `tail -f numbers.txt`. Each worker is the first
member that nobody else is yet; a worker that is replaced comes back as the same member.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

from fastapi import FastAPI
from twisted.internet.error import CannotListenError

from kevy_elect import BallotError, ElectConfig, ElectionService
from kevy_elect.aio import Election

PEERS = os.environ.get("PEERS", "a@127.0.0.1:7101,b@127.0.0.1:7102,c@127.0.0.1:7103").split(",")
DATA_DIR = os.environ.get("DATA_DIR", "kevy-elect")
TIMINGS = json.loads(os.environ.get("TIMINGS", "{}"))  # such as {"down_after": 2}
NUMBERS = Path(os.environ.get("NUMBERS", "numbers.txt"))
INTERVAL = float(os.environ.get("INTERVAL", "1"))


async def join(stack: AsyncExitStack) -> ElectionService:
    """Be the first member that no other process on this machine is."""
    for peer in PEERS:
        node_id = peer.partition("@")[0]
        member = Election(
            node_id, PEERS, data_dir=f"{DATA_DIR}/{node_id}", config=ElectConfig(**TIMINGS)
        )
        with suppress(BallotError, CannotListenError):  # its directory, or its port, is in use
            return await stack.enter_async_context(member)
    raise RuntimeError(f"all of {', '.join(PEERS)} run already: give this worker another member")


async def work(election: ElectionService) -> None:
    """Write one number after the other, on the primary only."""
    me = election.cluster.node_id
    while True:
        primary = await election.when_primary()
        while election.can_write():  # asked at the moment of writing, never remembered
            lines = NUMBERS.read_text().splitlines() if NUMBERS.exists() else []
            number = int(lines[-1].split()[0]) + 1 if lines else 1
            with NUMBERS.open("a") as file:
                file.write(f"{number} {primary.epoch} {os.getpid()} {me}\n")
            await asyncio.sleep(INTERVAL)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
        app.state.election = await join(stack)
        job = asyncio.create_task(work(app.state.election))
        stack.callback(job.cancel)
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/primary")
async def primary() -> dict[str, str | int | None]:
    """Who does the job, as this worker knows."""
    snapshot = app.state.election.state_snapshot()
    return {"primary": snapshot.current_primary, "epoch": snapshot.epoch}
