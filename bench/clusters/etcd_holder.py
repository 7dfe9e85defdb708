"""A client of etcd that writes while it believes that it holds a key under its lease."""

from __future__ import annotations

import base64
import json
import os
import time
from typing import Any, Final

from bench.clusters.etcd import Gateway
from bench.stamps import Stamps

STEP: Final = 0.002
KEY: Final = base64.b64encode(b"primary").decode()


class Holder:
    """Takes the key if it is free, and stops writing when the lease turns out to be lost."""

    def __init__(self, setting: dict[str, Any]) -> None:
        self._gateway = Gateway(setting["port"])
        self._ttl = max(1, round(setting["ttl"]))
        self._value = base64.b64encode(setting["name"].encode()).decode()
        self._lease: str | None = None
        self._due = 0.0
        self.holds = False

    def step(self) -> None:
        """Renew the lease or try to take the key, if it is time."""
        if time.monotonic() < self._due:
            return
        if self.holds:
            self._due = time.monotonic() + self._ttl / 3
            self.holds = self._renew()
        else:
            self._due = time.monotonic() + self._ttl / 20
            self.holds = self._take()

    def _renew(self) -> bool:
        told = self._gateway.ask("/v3/lease/keepalive", {"ID": self._lease})
        return told is not None and int(told["result"].get("TTL", 0)) > 0

    def _take(self) -> bool:
        granted = self._gateway.ask("/v3/lease/grant", {"TTL": self._ttl})
        if granted is None:
            return False
        self._lease = granted["ID"]
        free = {"key": KEY, "target": "CREATE", "result": "EQUAL", "create_revision": "0"}
        put = {"request_put": {"key": KEY, "value": self._value, "lease": self._lease}}
        told = self._gateway.ask("/v3/kv/txn", {"compare": [free], "success": [put]})
        return told is not None and bool(told.get("succeeded"))


def main() -> None:
    holder = Holder(json.loads(os.environ["BENCH"]))
    stamps = Stamps.append_to("stamps")
    while True:
        if holder.holds:
            stamps.put("write")
        holder.step()
        time.sleep(STEP)


if __name__ == "__main__":
    main()
