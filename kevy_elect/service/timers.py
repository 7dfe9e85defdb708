"""Timers that a step of the wall clock neither stops nor hastens.

The reactor's own timers use the wall clock: if it is set back by an hour, they stop for an hour.
The clock cannot be replaced, because the program around a node may use it as a date. This module
therefore keeps a node's timers, and the kernel wakes the reactor for them by a timerfd on the
clock of `uptime`.
"""

from __future__ import annotations

import ctypes
import math
import os
import sys
import time
from collections.abc import Callable
from typing import Any, Final

from twisted.internet.base import DelayedCall
from twisted.internet.interfaces import IReactorTime, IReadDescriptor
from twisted.internet.posixbase import PosixReactorBase
from twisted.logger import Logger
from zope.interface import implementer

from kevy_elect.service.clock import uptime

_ABSOLUTE: Final = 1
_FLAGS: Final = os.O_NONBLOCK | getattr(os, "O_CLOEXEC", 0)
_LIBC: Any = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
_timers: dict[Any, SteadyTimers] = {}


class _Setting(ctypes.Structure):
    """struct itimerspec: no interval, and the time to wake up."""

    _fields_ = (
        ("interval_seconds", ctypes.c_long),
        ("interval_nanoseconds", ctypes.c_long),
        ("seconds", ctypes.c_long),
        ("nanoseconds", ctypes.c_long),
    )


def timers(reactor: Any) -> Any:
    """The object for `callLater` and the clock of a LoopingCall, instead of `reactor`.

    It is `reactor` itself without timerfd (only Linux has it), or if the reactor cannot wait for
    file descriptors, as in tests. `use_monotonic_time` helps in the first case.
    """
    if not isinstance(reactor, PosixReactorBase) or not hasattr(_LIBC, "timerfd_create"):
        return reactor
    if reactor not in _timers:
        _timers[reactor] = SteadyTimers(reactor)
    return _timers[reactor]


class _Call(DelayedCall):
    """A call that also reports when it is delayed, so that its timer can be reset. Otherwise the
    timer would wake the process up in vain. Twisted's own reports only when it is advanced."""

    def reset(self, secondsFromNow: float) -> None:
        super().reset(secondsFromNow)
        self.resetter(self)


@implementer(IReactorTime, IReadDescriptor)
class SteadyTimers:
    """Delayed calls by the clock of `uptime`. It has a file descriptor while any call is pending,
    and until the end of the reactor's turn in which the last is cancelled, because another call
    is often set at once."""

    log = Logger()

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._calls: list[DelayedCall] = []
        self._descriptor: int | None = None
        self._armed_for = math.nan
        self._setting = _Setting()
        self._calling = False

    def seconds(self) -> float:
        return uptime()

    def callLater(
        self, delay: float, callable: Callable[..., Any], *args: object, **kwargs: object
    ) -> DelayedCall:
        when = self.seconds() + delay
        call = _Call(
            when, callable, args, kwargs, self._forget, lambda _: self._arm(), self.seconds
        )
        self._calls.append(call)
        self._arm()
        return call

    def getDelayedCalls(self) -> list[DelayedCall]:
        return list(self._calls)

    # The interface of a descriptor, for the reactor

    def fileno(self) -> int:
        return -1 if self._descriptor is None else self._descriptor

    def logPrefix(self) -> str:
        return "timers"

    def doRead(self) -> None:
        """Make all calls that are due."""
        self._calling = True
        now = self.seconds()
        for call in sorted(self._calls, key=DelayedCall.getTime):
            # An earlier call may have cancelled or delayed it.
            if call in self._calls and call.getTime() <= now:
                self._calls.remove(call)
                self._call(call)
        self._calling = False
        self._armed_for = math.nan  # resetting the timer also makes it unreadable
        if self._calls:
            self._arm()
        else:
            self._close()

    def connectionLost(self, reason: object) -> None:
        """The reactor ends, and all calls with it."""
        self._close()

    # The descriptor

    def _call(self, call: DelayedCall) -> None:
        call.called = 1
        try:
            call.func(*call.args, **call.kw)
        except BaseException:  # as the reactor does
            self.log.failure("a timer's call failed")

    def _forget(self, call: DelayedCall) -> None:
        self._calls.remove(call)
        self._arm()

    def _arm(self) -> None:
        """Set the timer for the first call, or to fire at once if there is none."""
        if self._calling:
            return
        if self._descriptor is None:
            clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
            self._descriptor = _checked(_LIBC.timerfd_create(clock, _FLAGS))
            self._armed_for = math.nan
            self._reactor.addReader(self)
        first = min(map(DelayedCall.getTime, self._calls), default=0.0)
        if first == self._armed_for:
            return
        self._armed_for = first
        setting = self._setting
        setting.seconds, setting.nanoseconds = divmod(max(1, round(first * 1e9)), 10**9)
        _checked(_LIBC.timerfd_settime(self._descriptor, _ABSOLUTE, ctypes.byref(setting), None))

    def _close(self) -> None:
        if self._descriptor is not None:
            self._reactor.removeReader(self)
            os.close(self._descriptor)
            self._descriptor = None


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
