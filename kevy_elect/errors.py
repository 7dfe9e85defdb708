"""The errors of this package, by their origin."""

from collections.abc import Callable


class ElectError(Exception):
    """Any error that this package raises deliberately."""


class ConfigError(ElectError, ValueError):
    """This program was used or configured wrongly. Nothing was changed.

    `settings` are the fields of ElectConfig that do not fit together, the wrong one first.
    `remedies` are other fields that could be changed instead. Both are empty for other mistakes.
    """

    def __init__(
        self, text: str, settings: tuple[str, ...] = (), remedies: tuple[str, ...] = ()
    ) -> None:
        """`text` has each of the settings in braces."""
        self.settings = settings
        self.remedies = remedies
        self._text = text
        super().__init__(self.naming(str))

    def naming(self, name: Callable[[str], str]) -> str:
        """The text, with `name` of each setting in place of its braces."""
        settings = (*self.settings, *self.remedies)
        if not settings:
            return self._text
        return self._text.format_map({each: name(each) for each in settings})


class FrameError(ElectError):
    """A peer broke the protocol, so its connection must end.

    `kind` is one word for logs and counters: `bad` (the envelope), `wrong_shape` (unknown verb,
    wrong number of elements, or text out of bounds), `bad_numeric`, `bad_role`, `bad_epoch` (R1) or
    `bad_sender` (the connection belongs to another member).
    """

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind = kind
        self.detail = detail


class StatusError(ElectError):
    """A document is not the status of a node. No part of it is used."""

    def __init__(self, detail: str) -> None:
        super().__init__(f"no valid status: {detail}")


class BallotError(ElectError):
    """The durable ballot cannot be read, saved or locked."""


class HandoverError(ElectError):
    """The role cannot be handed over as requested. Nothing was changed."""
