"""Keys of members: their files, the settings that name them, and all that can be wrong."""

from __future__ import annotations

import os
import re
import subprocess
import time
from pathlib import Path

from kevy_elect.errors import ConfigError
from kevy_elect.settings.links import (
    NoiseKeys,
    make_private_key,
    parse_key,
    public_key,
    read_identity,
    read_private_key,
)
from tests.settings.test_resolve import FILE, ConfigurationTests
from tests.support import ROOT

B, C = (public_key(bytes([number]) * 32) for number in (2, 5))


class KeyFileTests(ConfigurationTests):
    def setUp(self) -> None:
        self.key_file = self.mktemp()

    def write(self, text: str, mode: int = 0o600) -> str:
        Path(self.key_file).write_text(text)
        os.chmod(self.key_file, mode)
        return self.key_file

    def refusal(self, text: str, mode: int = 0o600) -> str:
        return str(self.assertRaises(ConfigError, read_private_key, self.write(text, mode)))

    def test_a_key_that_is_made_can_be_read_by_its_owner_only(self) -> None:
        private = make_private_key(self.key_file)
        self.assertEqual(read_private_key(self.key_file), private)
        self.assertEqual(os.stat(self.key_file).st_mode & 0o777, 0o600)
        self.assertEqual(Path(self.key_file).read_text(), private.hex() + "\n")

    def test_two_keys_differ(self) -> None:
        other = make_private_key(self.key_file)
        self.assertNotEqual(make_private_key(self.mktemp()), other)

    def test_a_key_that_is_there_is_never_replaced(self) -> None:
        private = make_private_key(self.key_file)
        error = self.assertRaises(ConfigError, make_private_key, self.key_file)
        self.assertIn("exists already", str(error))
        self.assertEqual(read_private_key(self.key_file), private)

    def test_either_case_and_white_space_around_are_read(self) -> None:
        self.assertEqual(read_private_key(self.write("  " + "aB" * 32 + "\r\n")), b"\xab" * 32)

    def test_a_key_that_others_may_use_is_refused_with_its_mode(self) -> None:
        for mode in (0o640, 0o604, 0o620, 0o610):
            self.assertIn(f"mode is {mode:o}", self.refusal("ab" * 32, mode))

    def test_what_is_no_key_is_refused(self) -> None:
        for text in ("", "ab" * 31, "ab" * 33, "xy" * 32, "ab" * 32 + "\nab"):
            self.assertIn("holds no private key", self.refusal(text))

    def test_what_cannot_be_read_is_refused_and_a_pipe_is_not_waited_for(self) -> None:
        self.assertIn(
            "No such file", str(self.assertRaises(ConfigError, read_private_key, self.key_file))
        )
        os.mkfifo(self.key_file, 0o600)
        self.assertIn(
            "no regular file", str(self.assertRaises(ConfigError, read_private_key, self.key_file))
        )

    def test_the_private_key_is_not_shown_by_its_holder(self) -> None:
        self.assertNotIn("abab", repr(NoiseKeys(b"ab" * 16, {})))

    def test_a_public_key_is_64_digits(self) -> None:
        self.assertEqual(parse_key("AB" * 32), b"\xab" * 32)
        for text in ("", "ab" * 31, "ab" * 33, "0x" + "ab" * 31, "ab" * 31 + "é"):
            self.assertRaises(ConfigError, parse_key, text)


class LinkSettingsTests(ConfigurationTests):
    def setUp(self) -> None:
        self.key_file = self.mktemp()
        self.private = make_private_key(self.key_file)
        self.noise = f'links = "noise"\nnoise-key = "{self.key_file}"\n'

    def test_links_are_plain_unless_it_is_said_otherwise(self) -> None:
        found = self.read(FILE)
        self.assertEqual((found.values["links"], found.links), ("plain", None))

    def test_keys_are_a_string_a_list_or_a_table(self) -> None:
        expected = NoiseKeys(self.private, {"b": (B,), "c": (C,)})
        b, c = B.hex(), C.hex()
        for written in (
            f'peer-keys = "b={b},c={c}"',
            f'peer-keys = ["b={b}", " c={c.upper()} "]',
            f'[peer-keys]\nb = "{b}"\nc = ["{c}"]',
        ):
            self.assertEqual(self.read(FILE + self.noise + written).links, expected)

    def test_the_names_of_the_existing_implementation_mean_the_same(self) -> None:
        keys = f'["a={B.hex()}", "b={B.hex()}", "c={C.hex()}"]'
        found = self.read(
            FILE
            + f'[secure]\nprivate_key_file = "{self.key_file}"\n'
            + f"[cluster]\nsecure = true\npeer_keys = {keys}"
        )
        self.assertEqual(found.links, NoiseKeys(self.private, {"b": (B,), "c": (C,)}))
        found = self.read(FILE + f"[cluster]\nsecure = false\npeer_keys = {keys}")
        self.assertIsNone(found.links)

    def test_what_else_stands_in_its_tables_is_a_mistake(self) -> None:
        self.mistake("FILE:4", "cluster.name: there is no such", file=FILE + "[cluster]\nname = 1")
        self.mistake("FILE:4: --links 7", "choose one of", file=FILE + "[cluster]\nsecure = 7")

    def test_one_setting_by_two_names_is_a_mistake(self) -> None:
        self.mistake("--links is given twice", file=FILE + 'links="plain"\n[cluster]\nsecure=false')

    def test_several_keys_of_a_member_are_kept_in_order(self) -> None:
        keys = f"b={C.hex()},b={B.hex()},c={C.hex()}"
        found = self.read(FILE + self.noise, peer_keys=keys)
        assert found.links is not None
        self.assertEqual(found.links.peers, {"b": (C, B), "c": (C,)})

    def test_the_member_without_a_key_is_named(self) -> None:
        keys = f'peer-keys = "b={B.hex()}"'
        self.mistake("FILE:5: --peer-keys: there is no key of c;", file=FILE + self.noise + keys)
        self.mistake("FILE:3: --peer-keys: there is no key of b, c;", file=FILE + self.noise)

    def test_a_wrong_key_is_blamed_on_its_member(self) -> None:
        wrong = f'[peer-keys]\nb = "{B.hex()}"\nc = "abc"'
        self.mistake("FILE:7: --peer-keys: c: 'abc' is no public", file=FILE + self.noise + wrong)
        for written, what in (
            ("peer-keys = 7", "write a table"),
            ("peer-keys = [7]", "write id=key"),
            ('peer-keys = "b"', "write id=key"),
            ("[peer-keys]\nb = 7", "a key in quotes"),
            (f'[peer-keys]\nd = "{B.hex()}"', "d is not among --peers"),
        ):
            self.mistake(what, file=FILE + self.noise + written)

    def test_a_key_of_its_own_is_needed(self) -> None:
        keys = f"b={B.hex()},c={C.hex()}"
        self.mistake("no key to prove itself by", file=FILE + 'links = "noise"', peer_keys=keys)
        os.chmod(self.key_file, 0o644)
        self.mistake("FILE:4: --noise-key", "group or", file=FILE + self.noise, peer_keys=keys)

    def test_members_take_commands_only_over_links_that_prove_who_speaks(self) -> None:
        keys = f"b={B.hex()},c={C.hex()}"
        given = {"admin_listen": "tcp:7201", "admin_peers": "a@h:7201,b@h:7202"}
        found = self.read(FILE + self.noise, peer_keys=keys, **given)
        self.assertEqual(found.values["admin-peers"], {"a": "h:7201", "b": "h:7202"})
        for name, value in given.items():
            option = f"--{name.replace('_', '-')}"
            self.mistake(f"{option}: plain links prove nothing", file=FILE, **{name: value})
            self.mistake(
                f"{option}: there is --no-admin too",
                file=FILE + self.noise,
                peer_keys=keys,
                no_admin="true",
                **{name: value},
            )

    def test_keys_without_secure_links_are_a_mistake_unless_plain_is_said(self) -> None:
        keys = f"b={B.hex()},c={C.hex()}"
        self.mistake("give --links noise too", file=FILE, peer_keys=keys)
        self.mistake("give --links noise too", file=FILE, noise_key=self.key_file)
        self.assertIsNone(self.read(FILE, peer_keys=keys, links="plain").links)


class DocumentedAuthorityTests(ConfigurationTests):
    def test_the_commands_in_the_documentation_make_an_identity(self) -> None:
        directory = Path(self.mktemp())
        directory.mkdir()
        page = (ROOT / "docs/links.md").read_text(encoding="utf-8")
        blocks = re.findall(r"^```sh\n(.*?)^```$", page, flags=re.DOTALL | re.MULTILINE)
        script = "set -e\n" + "".join(blocks)
        subprocess.run(["sh", "-c", script], cwd=directory, check=True, capture_output=True)
        files = [str(directory / name) for name in ("a.pem", "a.key", "ca.pem")]
        identity = read_identity("a", *files)
        self.assertLess(abs(identity.ends - time.time() - 365 * 86400), 3600)
        options = dict(zip(("tls_cert", "tls_key", "tls_ca"), files, strict=True))
        self.assertEqual(self.read(FILE, links="tls", **options).links, identity)

    def test_what_tls_needs_is_named(self) -> None:
        self.mistake("--links tls: give --tls-cert FILE, --tls-key FILE, --tls-ca FILE too",
                     file=FILE + 'links = "tls"')  # fmt: skip
        files = 'tls-cert = "no"\ntls-key = "no"\ntls-ca = "no"\n'
        self.mistake("FILE:3", "no cannot be read", file=FILE + files + 'links = "tls"')
        self.mistake("give --links tls too", file=FILE + files)
