"""Checks that the package can be built and installed: wheel, sdist and editable.

Run as `python tests/packaging/check.py`, with `build` and `twine` installed. It works on a copy
of the tree and in fresh virtual environments, all below one temporary directory.
A program and not a test: it needs minutes and a package index.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PLUGIN = "twisted/plugins/kevy_elect_plugin.py"
MANUAL = {"share/man/man1/kevy-elect.1", "share/man/man8/twistd-kevy-elect.8"}
IN_SDIST = {
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "LICENSE",
    "README.md",
    "SECURITY.md",
    "docs/images/architecture.svg",
    "docs/protocol.md",
    "pyproject.toml",
    "setup.cfg",
    "tests/__init__.py",
    "tests/conftest.py",
    "tests/protocol/vectors/wire.json",
    "tox.ini",
}
# Nothing of the caller's environment is to help an installation, or to get in its way.
ENVIRONMENT = {
    name: value
    for name, value in os.environ.items()
    if name not in {"PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV"}
}


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="kevy-elect-packaging-") as name:
        work = Path(name)
        elsewhere = work / "elsewhere"
        elsewhere.mkdir()
        tree = copy_tree(work / "tree")
        say("building the sdist and the wheel")
        dist = work / "dist"
        run(sys.executable, "-m", "build", "--sdist", "--wheel", "-o", dist, tree, cwd=elsewhere)
        (wheel,) = dist.glob("*.whl")
        (sdist,) = dist.glob("*.tar.gz")
        run(sys.executable, "-m", "twine", "check", "--strict", wheel, sdist, cwd=elsewhere)
        check_wheel(wheel, tree)
        check_sdist(sdist, tree)
        version = wheel.name.split("-")[1]
        for kind, target in (("wheel", [wheel]), ("sdist", [sdist]), ("editable", ["-e", tree])):
            say(f"installing: {kind}")
            venv = work / kind
            run(sys.executable, "-m", "venv", venv, cwd=elsewhere)
            run(venv / "bin/python", "-m", "pip", "install", "-q", *target, cwd=elsewhere)
            source = tree if kind == "editable" else venv
            check_installed(venv / "bin", elsewhere, version, source)
            if kind != "editable":
                missing = {page for page in MANUAL if not (venv / page).is_file()}
                check(not missing, f"{kind} does not install {sorted(missing)}")
    say("wheel, sdist and editable installation are fine")


def copy_tree(to: Path) -> Path:
    """Copy the sources, without what tools left among them but for one dropin.cache."""
    leftovers = shutil.ignore_patterns(
        ".*", "*.egg-info", "*.pyc", "__pycache__", "_trial_temp*", "build", "dist", "kevy-elect-*"
    )
    shutil.copytree(ROOT, to, ignore=leftovers)
    (to / "twisted/plugins/dropin.cache").write_bytes(b"what twistd leaves in a working tree")
    return to


def check_wheel(wheel: Path, tree: Path) -> None:
    """The wheel holds the package, the plugin and the manual, and nothing else: above all no
    `__init__.py` of `twisted`, which would replace Twisted's own."""
    data = "-".join(wheel.name.split("-")[:2]) + ".data/data"
    expected = {PLUGIN, *(f"{data}/{page}" for page in MANUAL)} | {
        path.relative_to(tree).as_posix()
        for path in (tree / "kevy_elect").rglob("*")
        if path.is_file()
    }
    check("kevy_elect/py.typed" in expected, "kevy_elect/py.typed is missing")
    with zipfile.ZipFile(wheel) as archive:
        found = {name for name in archive.namelist() if ".dist-info/" not in name}
    check(found >= expected, f"{wheel.name} lacks {sorted(expected - found)}")
    check(found <= expected, f"{wheel.name} must not hold {sorted(found - expected)}")


def check_sdist(sdist: Path, tree: Path) -> None:
    """The sdist holds what is needed to build and test, and nothing that would do harm."""
    with tarfile.open(sdist) as archive:
        found = {
            member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()
        }
    expected = IN_SDIST | {
        path.relative_to(tree).as_posix()
        for folder in ("kevy_elect", "tests", "twisted")
        for path in (tree / folder).rglob("*")
        if path.suffix in (".json", ".py", ".typed")
    }
    check(found >= expected, f"{sdist.name} lacks {sorted(expected - found)}")
    harmful = {name for name in found if name.endswith(("dropin.cache", ".pyc"))}
    harmful |= found & {"twisted/__init__.py", "twisted/plugins/__init__.py"}
    check(not harmful, f"{sdist.name} must not hold {sorted(harmful)}")


def check_installed(bin_dir: Path, cwd: Path, version: str, source: Path) -> None:
    """Plugin and commands work, in a directory that is not the source tree."""
    python = bin_dir / "python"
    where = run(python, "-c", "import kevy_elect; print(kevy_elect.__file__)", cwd=cwd)
    check(Path(where).resolve().is_relative_to(source.resolve()), f"imported from {where}")

    listed = run(bin_dir / "twistd", "--help", cwd=cwd)
    commands = {line.split()[0] for line in listed.splitlines() if line.strip()}
    check("kevy-elect" in commands, "twistd --help does not list kevy-elect")
    check("web" in commands, "twistd --help no longer lists Twisted's own commands")
    run(bin_dir / "twistd", "kevy-elect", "--help", cwd=cwd)

    script = run(bin_dir / "kevy-elect", "--version", cwd=cwd)
    module = run(python, "-m", "kevy_elect", "--version", cwd=cwd)
    check(script == module, f"kevy-elect is {script!r}, python -m kevy_elect is {module!r}")
    check(version in script.split(), f"--version says {script!r}, the package is {version}")


def check(holds: bool, complaint: str) -> None:  # noqa: FBT001 - called as assert is
    if not holds:
        sys.exit(f"packaging: {complaint}")


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command to its end and return what it printed; end this program if it fails."""
    done = subprocess.run(
        command,
        cwd=cwd,
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        words = " ".join(map(str, command))
        sys.exit(f"{words}: exit status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout.strip()


def say(text: str) -> None:
    print(f"packaging: {text}", flush=True)


if __name__ == "__main__":
    main()
