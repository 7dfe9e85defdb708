"""A store that refuses late writes: those with a smaller epoch than it has seen.

    python examples/fenced_store.py

A primary that was paused between its last question and its write writes late, and no lease
can prevent that. The store can, if each write carries the epoch in which it was decided:

    curl -i -X PUT -H 'Epoch: 2' -d hello http://127.0.0.1:8200/

`GET /` shows all writes. fenced_job.tac writes to it.
"""

import json
import os
from pathlib import Path

from twisted.internet import reactor
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

PORT = int(os.environ.get("STORE_PORT", "8200"))
WRITES = Path(os.environ.get("STORE_FILE", "writes.jsonl"))


class Store(Resource):
    isLeaf = True

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        path.touch()
        # The fence must outlive a restart. Epochs never fall, so the last is the greatest.
        writes = path.read_text().splitlines()
        self.epoch: int = json.loads(writes[-1])["epoch"] if writes else 0

    def render_GET(self, request: Request) -> bytes:
        return self.path.read_bytes()

    def render_PUT(self, request: Request) -> bytes:
        try:
            epoch = int(request.getHeader("epoch") or "")
            value = request.content.read().decode()
        except ValueError:
            request.setResponseCode(400)
            return b"a write is text, and its header Epoch a number\n"
        if epoch < self.epoch:
            request.setResponseCode(409)
            return f"refused: epoch {self.epoch} has written already\n".encode()
        with self.path.open("a") as file:
            file.write(json.dumps({"epoch": epoch, "value": value}) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.epoch = epoch
        return b"written\n"


if __name__ == "__main__":
    reactor.listenTCP(PORT, Site(Store(WRITES)), interface="127.0.0.1")
    reactor.run()
