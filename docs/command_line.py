"""Directives for Sphinx that write down what the command line takes, as the code has it.

`commands` has each subcommand of `kevy-elect`, `settings` each option of `twistd kevy-elect`.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Sequence

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from kevy_elect.cli.main import make_parser
from kevy_elect.settings.table import SETTINGS, Group, Setting

WIDTH = 72
"""Characters of a line of usage, so that a terminal has room for it in a manual page."""


class Commands(SphinxDirective):
    """A section for each subcommand: usage, what it does, what it takes."""

    def run(self) -> list[nodes.Node]:
        return [
            section(name, usage(parser), text(parser.description or ""), *arguments(parser))
            for name, parser in subcommands(make_parser())
        ]


class Settings(SphinxDirective):
    """A section for each group of settings."""

    def run(self) -> list[nodes.Node]:
        return [
            section(group.value, definitions(map(setting, members)))
            for group in Group
            if (members := [each for each in SETTINGS if each.group is group])
        ]


def subcommands(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from action.choices.items()


def own(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """What a command takes, without the settings if it takes each of those, and without --help."""
    actions = [each for each in parser._actions if not isinstance(each, argparse._HelpAction)]
    if not takes_settings(parser):
        return actions
    settings = {each.option for each in SETTINGS}
    return [each for each in actions if settings.isdisjoint(each.option_strings)]


def takes_settings(parser: argparse.ArgumentParser) -> bool:
    taken = {option for action in parser._actions for option in action.option_strings}
    return taken.issuperset(each.option for each in SETTINGS)


def usage(parser: argparse.ArgumentParser) -> nodes.Node:
    formatter = argparse.HelpFormatter(parser.prog, width=WIDTH)
    formatter.add_usage(None, own(parser), parser._mutually_exclusive_groups, prefix="")
    rest = " [option of twistd kevy-elect ...]" if takes_settings(parser) else ""
    return nodes.literal_block("", formatter.format_help().rstrip() + rest, language="none")


def arguments(parser: argparse.ArgumentParser) -> Iterator[nodes.Node]:
    formatter = argparse.HelpFormatter(parser.prog)
    taken = own(parser)
    if taken:
        yield definitions(
            (
                action.option_strings or [str(action.metavar)],
                value(action) if action.option_strings else "",
                [formatter._expand_help(action)],
            )
            for action in taken
        )


def value(action: argparse.Action) -> str:
    """What stands for the value of an option; empty for a flag."""
    return str(action.metavar or "|".join(map(str, action.choices or ())))


def setting(each: Setting) -> tuple[Sequence[str], str, Sequence[str]]:
    remarks = [f"{each.meaning}."]
    if each.default:
        remarks.append(f"Default: {each.default}.")
    if each.reloadable:
        remarks.append("Reloadable.")
    return [each.option], "|".join(each.choices) or each.metavar, [" ".join(remarks)]


def section(title: str, *body: nodes.Node) -> nodes.Node:
    return nodes.section("", nodes.title(title, title), *body, ids=[nodes.make_id(title)])


def text(words: str) -> nodes.Node:
    return nodes.paragraph(words, words)


def definitions(items: Iterable[tuple[Sequence[str], str, Sequence[str]]]) -> nodes.Node:
    """A list of names, what stands for their value, and paragraphs of what they mean."""
    found = nodes.definition_list()
    for names, value, meaning in items:
        term = nodes.term()
        for name in names:
            if len(term):
                term += nodes.Text(", ")
            term += addnodes.literal_strong(name, name)
        if value:
            term += [nodes.Text(" "), addnodes.literal_emphasis(value, value)]
        found += nodes.definition_list_item(
            "", term, nodes.definition("", *(text(each) for each in meaning))
        )
    return found


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("commands", Commands)
    app.add_directive("settings", Settings)
    return {"parallel_read_safe": True}
