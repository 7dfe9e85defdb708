"""One process of pysyncobj that stamps its states."""

from __future__ import annotations

import json
import os
import time
from typing import Any, Final

from pysyncobj import SyncObj, SyncObjConf

from bench.stamps import Stamps

ASK_EVERY: Final = 0.002


def join(setting: dict[str, Any]) -> SyncObj:
    addresses = dict(setting["addresses"])
    own = addresses.pop(setting["name"])
    down_after = setting["down_after"]
    configuration = SyncObjConf(
        appendEntriesPeriod=setting["heartbeat"],
        raftMinTimeout=down_after,
        raftMaxTimeout=2 * down_after,
        connectionTimeout=max(3.5, 3 * down_after),
        connectionRetryTime=0.2,
    )
    return SyncObj(own, list(addresses.values()), conf=configuration)


def main() -> None:
    setting = json.loads(os.environ["BENCH"])
    stamps = Stamps.append_to("stamps")
    names = {address: name for name, address in setting["addresses"].items()}
    member = join(setting)
    told: tuple[str | None, bool] | None = None
    while True:
        writable = member._isLeader()
        state = names.get(str(member._getLeader())), writable
        if state != told:
            told = state
            stamps.put("state", primary=state[0], writable=writable)
        if writable and setting["writes"]:
            stamps.put("write")
        time.sleep(ASK_EVERY)


if __name__ == "__main__":
    main()
