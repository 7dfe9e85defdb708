"""Status documents as objects for JSON."""

from __future__ import annotations

from typing import Any

from kevy_elect.ops.page_model import Known
from kevy_elect.status import from_object


def document(**changes: object) -> dict[str, Any]:
    """The document of a healthy primary `a` of epoch 3, with one peer and one event."""
    return {
        "node_id": "a",
        "version": "0.1.0",
        "members": ["a", "b", "c"],
        "witness": False,
        "role": "primary",
        "epoch": 3,
        "current_primary": "a",
        "primary_addr": "127.0.0.1:6001",
        "has_quorum": True,
        "can_write": True,
        "lease_expires_in": 3.4,
        "down_peers": [],
        "paused_for": 0.0,
        "settings": {"hb_interval": 0.2, "down_after": 5.0},
        "peers": [peer()],
        "children": [],
        "events": [event()],
        "last_will": None,
        "maintained_for": 0.0,
        "data": None,
        "check": None,
        "uptime": 90.0,
        "cluster_name": "",
        "began_by_will_of": None,
    } | changes


def replica(node_id: str, primary: str | None = "a", **changes: object) -> dict[str, Any]:
    """The document of a replica that follows `primary`."""
    follows = {"current_primary": primary, "can_write": False, "lease_expires_in": 0.0}
    return document(node_id=node_id, role="replica", **follows) | changes


def follower(node_id: str = "b", primary: str | None = "c", **more: Any) -> dict[str, Any]:
    """The document of a replica of c in epoch 3, without peers and events."""
    return replica(node_id, primary, peers=[], events=[]) | more


def writer(node_id: str, **more: Any) -> dict[str, Any]:
    """The document of a primary of epoch 3 with a lease, without peers and events."""
    leads = {"role": "primary", "can_write": True, "lease_expires_in": 0.4}
    return follower(node_id, node_id, **leads) | more


def known(found: dict[str, Any], at: float = 10.0) -> Known:
    """A node with this document, received at that time."""
    made = Known(found["node_id"], "http://192.0.2.1")
    made.say(from_object(found), at, at)
    return made


def peer(**changes: object) -> dict[str, Any]:
    return {
        "node_id": "b",
        "alive": True,
        "heard_ago": 0.14,
        "epoch": 3,
        "role": "replica",
        "offset": 7,
        "acknowledging": True,
        "link": "connected",
        "link_age": 12.0,
        "incoming_age": 11.0,
        "queued": 0,
        "dropped": 0,
        "security": "plain",
        "key": "",
    } | changes


def event(**changes: object) -> dict[str, Any]:
    return {
        "ago": 2.0,
        "kind": "role",
        "text": "elected primary of epoch 3 by a, b",
        "critical": False,
        "epoch": 3,
        "cause": "elected",
        "member": None,
        "reason": "",
    } | changes


def data(**changes: object) -> dict[str, Any]:
    """The entry of a data server that takes writes."""
    return {
        "server": "Redis at 127.0.0.1:6379",
        "state": "primary",
        "problem": "",
        "data_epoch": 3,
        "length": 1000,
        "source": "",
        "in_sync": False,
    } | changes


def following(**changes: object) -> dict[str, Any]:
    """The entry of a data server that follows the primary's."""
    return data(state="following", source="127.0.0.1:6001", in_sync=True) | changes


def child(**changes: object) -> dict[str, Any]:
    return {"name": "counter", "state": "running", "pid": 7, "restarts": 0} | changes
