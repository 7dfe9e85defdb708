"""What can go wrong, by whose fault it is."""

from collections.abc import Callable


class ElectError(Exception):
    """Any error that this package raises on purpose."""


class ConfigError(ElectError, ValueError):
    """This program was used or configured wrongly; nothing was changed.

    `settings` are the fields of ElectConfig that do not fit together, the wrong one first, and
    `remedies` others that could be changed instead; none if it is about something else.
    """

    def __init__(
        self, text: str, settings: tuple[str, ...] = (), remedies: tuple[str, ...] = ()
    ) -> None:
        """`text` has each of the settings in braces, where there are any."""
        self.settings = settings
        self.remedies = remedies
        self._text = text
        super().__init__(self.naming(str))

    def naming(self, name: Callable[[str], str]) -> str:
        """The text, with each setting as `name` calls it."""
        settings = (*self.settings, *self.remedies)
        if not settings:
            return self._text
        return self._text.format_map({each: name(each) for each in settings})


class FrameError(ElectError):
    """A peer broke the protocol; its connection is to be ended.

    `kind` is one word for logs and counters: `bad` (the envelope), `wrong_shape`
    (unknown verb, arity, or text out of bounds), `bad_numeric`, `bad_role`,
    `bad_epoch` (R1) or `bad_sender` (the connection speaks for another member).
    """

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind = kind
        self.detail = detail


class StatusError(ElectError):
    """A document is no node's status; nothing of it is used."""

    def __init__(self, detail: str) -> None:
        super().__init__(f"no valid status: {detail}")


class BallotError(ElectError):
    """The durable ballot cannot be read, saved or locked."""


class HandoverError(ElectError):
    """The role cannot be handed over as asked; nothing was changed."""
