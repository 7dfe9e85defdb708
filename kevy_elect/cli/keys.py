"""`kevy-elect keygen` and `pubkey`: the key with which a node authenticates itself."""

from __future__ import annotations

import argparse

from kevy_elect.errors import ConfigError
from kevy_elect.settings import links


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `keygen` and `pubkey` to the subcommands of `kevy-elect`."""
    keygen = commands.add_parser(
        "keygen",
        help="make a node's private key",
        description="Make a private key for --noise-key in a new file that only its owner may "
        "read, and print its public key.",
    )
    keygen.add_argument("file", metavar="FILE", help="the file to make")
    keygen.set_defaults(run=_keygen)
    pubkey = commands.add_parser(
        "pubkey",
        help="print the public key of a node",
        description="Print the public key of a private key, for --peer-keys.",
    )
    pubkey.add_argument("file", metavar="FILE", help="a file that keygen made")
    pubkey.set_defaults(run=_pubkey)


def _keygen(args: argparse.Namespace) -> int:
    # This fails without the library, and without the library a key is of no use.
    links.public_key(bytes(links.KEY_BYTES))
    print(links.public_key(links.make_private_key(args.file)).hex())
    return 0


def _pubkey(args: argparse.Namespace) -> int:
    try:
        private = links.read_private_key(args.file)
    except ConfigError as error:
        raise ConfigError(f"{args.file} {error}") from None
    print(links.public_key(private).hex())
    return 0
