from __future__ import annotations

import os
import time
import tomllib
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kevy_elect.settings.toml_file import MAX_SIZE, ConfigFile, FileError, Keys, lines_of, read

DOCUMENT = '''\
# a comment: x = 1
one = 1
two = """
three = 3
[four]
"""
"fi=ve" = [  # opens
  "]", '[[six]]',

  { seven = 7 },
]
eight.nine = 8
eight . "ten" = { eleven = 11, twelve.x = 12 }

  [ table ]
a = 1
  [table.deep."er"]
a = 2
[[array]]
b = 1
[[array.nested]]
c = 1
[[array.nested]]
c = 2
[[array]]
b = \'\'\'two
lines\'\'\'
[array.inner]
d = 1
'''


class LinesTests(SynchronousTestCase):
    def test_every_key_has_the_line_on_which_it_appears_first(self) -> None:
        self.assertEqual(
            lines_of(DOCUMENT),
            {
                ("one",): 2,
                ("two",): 3,
                ("fi=ve",): 7,
                ("eight",): 12,
                ("eight", "nine"): 12,
                ("eight", "ten"): 13,
                ("table",): 15,
                ("table", "a"): 16,
                ("table", "deep"): 17,
                ("table", "deep", "er"): 17,
                ("table", "deep", "er", "a"): 18,
                ("array",): 19,
                ("array", 0): 19,
                ("array", 0, "b"): 20,
                ("array", 0, "nested"): 21,
                ("array", 0, "nested", 0): 21,
                ("array", 0, "nested", 0, "c"): 22,
                ("array", 0, "nested", 1): 23,
                ("array", 0, "nested", 1, "c"): 24,
                ("array", 1): 25,
                ("array", 1, "b"): 26,
                ("array", 1, "inner"): 28,
                ("array", 1, "inner", "d"): 29,
            },
        )

    def test_line_ends_may_be_those_of_windows(self) -> None:
        self.assertEqual(lines_of(DOCUMENT.replace("\n", "\r\n")), lines_of(DOCUMENT))

    def test_only_the_line_ends_of_toml_count(self) -> None:
        self.assertEqual(lines_of("a = '\u2028\x85'\nb = 2"), {("a",): 1, ("b",): 2})

    VALUES = (
        "1",
        '"]"',
        "'''\n[x]\ny = 1\n'''",
        '"""\n\\"""\n"""',
        "[\n1, # ]\n[2],\n]",
        "[ '''\n]''' ]",
        "{ p = 1, q = [\n1 ] }",
    )
    STATEMENTS = st.tuples(
        st.sampled_from(["comment", "value", "dotted", "table", "array"]), st.sampled_from(VALUES)
    )

    @given(st.lists(STATEMENTS, max_size=12))
    def test_of_any_document(self, statements: list[tuple[str, str]]) -> None:
        """Each key is named for the line on which this test has put it."""
        text, expected, table, arrays = "", {}, (), 0
        for number, (kind, value) in enumerate(statements):
            line, name = text.count("\n") + 1, f"k{number}"
            if kind == "comment":
                text += f"# {name} = {value.splitlines()[0]}\n\n"
            elif kind == "value":
                text += f"{name} = {value}\n"
                expected[(*table, name)] = line
            elif kind == "dotted":
                text += f'{name} . "y" = {value} # {name}\n'
                expected[(*table, name, "y")] = line
            elif kind == "table":
                text += f"[{name}.z]\n"
                table = (name, "z")
                expected[table] = line
            else:
                text += " [[ array ]]\n"
                table: Keys = ("array", arrays)
                arrays += 1
                expected[table] = line
        tomllib.loads(text)
        found = lines_of(text)
        self.assertEqual({keys: found.get(keys) for keys in expected}, expected)

    @given(st.text(st.sampled_from("ab.=[]{}\"'\\\n #,1"), max_size=60))
    def test_of_any_text_whatever(self, text: str) -> None:
        """Nothing is raised; and of a document, no key is named that it has not."""
        found = lines_of(text)
        try:
            values = tomllib.loads(text)
        except tomllib.TOMLDecodeError:
            return
        for key in values:
            self.assertIn((key,), found)
        for keys, line in found.items():
            self.assertLessEqual(line, text.count("\n") + 1)
            value: Any = values
            for key in keys:
                value = value[key]

    def test_no_file_takes_long(self) -> None:
        """One pass each, where something quadratic takes from seconds to minutes."""
        for text in (
            "a = [\n" + "1,\n" * 11_000 + "]",
            "a = [\n" + "[],\n" * 8_000 + "]",
            "[[a]]\n" * 5_000,
            "a = 1\n" * 5_000,
            '"""x' * 8_000,
            "'" * MAX_SIZE,
            '"' + "\\\\" * 16_000,
            'a = """' + "\\" * MAX_SIZE,
        ):
            begun = time.process_time()
            lines_of(text[:MAX_SIZE])
            self.assertLess(time.process_time() - begun, 5.0, text[:10])


class FileTests(SynchronousTestCase):
    def write(self, content: bytes) -> str:
        path = Path(self.mktemp())
        path.write_bytes(content)
        return str(path)

    def refused(self, content: bytes) -> FileError:
        error = self.assertRaises(FileError, read, self.write(content))
        assert isinstance(error, FileError)
        return error

    def test_values_and_lines(self) -> None:
        file = read(self.write(b"a = 1\n[b]\nc = [\n{ d = 1 }]\n"))
        self.assertEqual(file.values, {"a": 1, "b": {"c": [{"d": 1}]}})
        self.assertEqual((file.line("a"), file.line("b", "c")), (1, 3))

    def test_what_has_no_line_of_its_own_has_that_of_what_leads_there(self) -> None:
        file = ConfigFile("x", "\na = [ { b = 1 } ]")
        self.assertEqual((file.line("a", 0, "b"), file.line("b")), (2, None))

    def test_what_is_no_toml_is_refused_with_its_line(self) -> None:
        error = self.refused(b"a = 1\nb = = 2\n")
        self.assertEqual(error.line, 2)
        self.assertIn("no TOML: Invalid value in column 5", str(error))

    def test_a_text_that_is_cut_off_has_no_line(self) -> None:
        self.assertIsNone(self.refused(b'a = """\n').line)

    def test_another_encoding_is_refused_with_its_line(self) -> None:
        error = self.refused(b"a = 1\nb = '\xe9'\n")
        self.assertEqual(error.line, 2)
        self.assertIn("UTF-8", str(error))

    def test_the_wrong_file_is_refused(self) -> None:
        self.assertIn("is larger than 32 KiB", str(self.refused(b"#" * (MAX_SIZE + 1))))
        self.assertIn("too deeply", str(self.refused(b"a = " + b"[" * 10000)))
        deep = self.refused(b"a = 1\n" + b"a." * 10000 + b"a = 1")
        self.assertEqual((deep.line, "10001 parts" in str(deep)), (2, True))
        self.assertIn("too large", str(self.refused(b"a = " + b"1" * 10000)))

    def test_a_file_that_cannot_be_read_is_refused(self) -> None:
        missing = self.assertRaises(FileError, read, "/no/such/file")
        self.assertIn("No such file or directory", str(missing))
        pipe = self.mktemp()
        os.mkfifo(pipe)
        for path in (pipe, "/"):
            self.assertIn("no regular file", str(self.assertRaises(FileError, read, path)))
