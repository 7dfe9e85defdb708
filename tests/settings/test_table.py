"""The table of settings, and everything that repeats it."""

from __future__ import annotations

import re
from pathlib import Path

import attrs
from twisted.trial.unittest import SynchronousTestCase

from kevy_elect.config import ElectConfig
from kevy_elect.grace import OnExit
from kevy_elect.settings.links import make_private_key, public_key
from kevy_elect.settings.resolve import read
from kevy_elect.settings.table import NAMED, SETTINGS, TIMINGS, Kind, did_you_mean
from kevy_elect.tap import Options
from tests.support import ROOT
from tests.support.certificates import Authority


class TableTests(SynchronousTestCase):
    def test_names_are_distinct_and_become_variables(self) -> None:
        self.assertEqual(len(NAMED), len(SETTINGS))
        self.assertEqual(NAMED["down-after"].variable, "KEVY_ELECT_DOWN_AFTER")

    def test_only_flags_have_no_value(self) -> None:
        for setting in SETTINGS:
            self.assertEqual(setting.metavar == "", setting.kind is Kind.FLAG, setting.name)
            self.assertEqual(bool(setting.choices), setting.kind is Kind.CHOICE, setting.name)
        self.assertEqual(NAMED["on-exit"].choices, tuple(each.value for each in OnExit))

    def test_timings_are_those_of_the_election_with_their_defaults(self) -> None:
        fields = {field.name for field in attrs.fields(ElectConfig)}
        for setting in TIMINGS:
            self.assertIn(setting.field, fields)
            if setting.name not in ("lease-margin", "lease-duration"):
                self.assertEqual(float(setting.default), getattr(ElectConfig(), setting.field))

    def test_the_command_line_has_each(self) -> None:
        options = Options()
        words = {option.rstrip("="): option for option in options.longOpt}
        for setting in SETTINGS:
            self.assertEqual(words.pop(setting.name).endswith("="), bool(setting.metavar))
            self.assertIn(setting.meaning, options.docs[setting.name])
        self.assertEqual(set(words), {"help", "version"})

    def page(self) -> str:
        return (ROOT / "docs/options.md").read_text(encoding="utf-8")

    def test_the_file_in_the_page_is_one(self) -> None:
        (text,) = re.findall(r"^```toml\n(.*?)^```$", self.page(), re.DOTALL | re.MULTILINE)
        path = Path(self.mktemp())
        path.write_text(text, encoding="utf-8")
        found = read({"config": str(path)}, {})
        self.assertEqual(found.cluster.ids, ("a", "b", "c"))

    def test_the_page_has_each_with_its_default(self) -> None:
        rows = re.findall(r"^\| `--([^`]+)` \|([^|]*)\|", self.page(), flags=re.MULTILINE)
        table = [
            (" ".join(filter(None, (each.name, each.metavar))), _without_off(each.default))
            for each in SETTINGS
        ]
        found = [
            (option, _without_off(default.replace("`", "").strip())) for option, default in rows
        ]
        self.assertEqual(found, table)

    def page_files(self) -> dict[str, str]:
        """What protects the pages, by the names in the example."""
        directory = Path(self.mktemp()).absolute()
        directory.mkdir()
        authority, token = Authority(directory), directory / "token"
        token.touch(0o600)
        token.write_text("0123456789abcdef\n")
        certificate, key = authority.sign("page", [])
        mine, secret = authority.sign("redis", [])
        return {
            "redis-ca.pem": str(authority.path),
            "redis.pem": mine,
            "redis.key": secret,
            "sentinel.pem": mine,
            "sentinel.key": secret,
            "page.pem": certificate,
            "page.key": key,
            "page-ca.pem": str(authority.path),
            "http.token": str(token),
        }

    def test_the_example_has_each_and_what_it_says_may_be_said(self) -> None:
        text = (ROOT / "examples/kevy-elect.toml").read_text(encoding="utf-8")
        assigned = re.compile(r"^# ([a-z-]+ = .*)$", flags=re.MULTILINE)
        path = Path(self.mktemp())
        password = Path(self.mktemp())
        password.touch(0o600)
        password.write_text("secret\n")
        given = assigned.sub(r"\1", text)
        given = re.sub(r"/etc/kevy-elect/\w+\.password", str(password.absolute()), given)
        for name, file in self.page_files().items():
            given = given.replace(f"/etc/kevy-elect/{name}", file)
        plain = re.sub("(?m)^admin-(listen|peers).*$", "", given)
        key = self.mktemp()
        public = public_key(make_private_key(key)).hex()
        noise = given.replace('links = "plain"', 'links = "noise"')
        noise = noise.replace("/etc/kevy-elect/key", str(Path(key).absolute()))
        noise = re.sub("(?m)^peer-keys.*$", f'peer-keys = "b={public},c={public}"', noise)
        sources: set[str] = set()
        # A Redis, or a store by commands; links that prove who speaks, or not.
        for of_links, excluded in (
            (plain, "redis"),
            (plain, "(freeze|promote|follow|demote|offset-command)"),
            (noise, "redis"),
        ):
            path.write_text(re.sub(rf"(?m)^{excluded}.*$", "", of_links), encoding="utf-8")
            found = read({"config": str(path), "node-id": "a"}, {})
            sources |= {name for name, each in found.sources.items() if each.name == str(path)}
        self.assertEqual(sources, {setting.name for setting in SETTINGS[2:]})
        for setting in SETTINGS:
            if setting.reloadable and setting not in TIMINGS:
                self.assertRegex(text, rf"(?m)^# {setting.name} = .*\(reload\)")
        path.write_text(text, encoding="utf-8")
        as_it_is = read({"config": str(path), "node-id": "a"}, {})
        self.assertEqual(
            {name for name, source in as_it_is.sources.items() if source.name == str(path)},
            {"peers", "http-peers"},
        )


def _without_off(default: str) -> str:
    return "" if default in ("off", "none") else default


class DidYouMeanTests(SynchronousTestCase):
    def test_what_is_near_is_named(self) -> None:
        self.assertEqual(did_you_mean("dwon-after", NAMED), "; did you mean down-after?")

    def test_what_is_not_is_not(self) -> None:
        self.assertEqual(did_you_mean("colour", NAMED), "")
