"""The durable ballot and the lock of its directory."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from kevy_elect.ballot import FileBallot, MemoryBallot
from kevy_elect.directory import DirectoryLock
from kevy_elect.errors import BallotError
from kevy_elect.messages import U64_MAX
from tests.support import ROOT


def refusing(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class InMemory(SynchronousTestCase):
    def test_new(self) -> None:
        self.assertEqual(MemoryBallot().load(), (0, None))

    def test_keeps_what_was_saved(self) -> None:
        ballot = MemoryBallot()
        ballot.save(7, "b")
        ballot.save(8, None)
        self.assertEqual(ballot.load(), (8, None))


class InAFile(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.ballot = FileBallot(self.directory)
        self.file = self.directory / "elect.meta"

    def test_new(self) -> None:
        self.assertEqual(self.ballot.load(), (0, None))

    def test_new_in_a_directory_that_is_there(self) -> None:
        self.directory.mkdir()
        self.assertEqual(self.ballot.load(), (0, None))

    def test_two_lines(self) -> None:
        self.ballot.save(7, "b")
        self.assertEqual(self.file.read_bytes(), b"epoch 7\nvoted b\n")
        self.assertEqual(self.ballot.load(), (7, "b"))

    def test_a_dash_for_nobody(self) -> None:
        self.ballot.save(7, None)
        self.assertEqual(self.file.read_bytes(), b"epoch 7\nvoted -\n")
        self.assertEqual(self.ballot.load(), (7, None))

    def test_the_next_life_finds_the_last(self) -> None:
        for epoch in range(1, 5):
            self.ballot.save(epoch, "n1")
        self.assertEqual(FileBallot(self.directory).load(), (4, "n1"))

    def test_the_largest(self) -> None:
        self.ballot.save(U64_MAX, "x" * 32)
        self.assertEqual(self.ballot.load(), (U64_MAX, "x" * 32))

    def test_nothing_is_left_beside_it(self) -> None:
        self.ballot.save(7, "b")
        self.assertEqual(os.listdir(self.directory), ["elect.meta"])


class TheOrderOfASave(SynchronousTestCase):
    """Written beside, flushed, renamed, the directory flushed: no less survives a crash."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.ballot = FileBallot(self.directory)
        self.file = self.directory / "elect.meta"
        self.steps: list[str] = []
        self.beside: set[str] = set()
        self.patch(os, "fsync", self.recorded(os.fsync, self.on_fsync))
        self.patch(os, "replace", self.recorded(os.replace, self.on_rename))
        self.patch(os, "rename", self.recorded(os.rename, self.on_rename))

    def recorded(self, real: Callable[..., Any], note: Callable[..., None]) -> Callable[..., Any]:
        def wrapper(*args: Any, **directories: int) -> Any:
            note(*args, **directories)
            return real(*args, **directories)

        return wrapper

    def on_fsync(self, fd: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{fd}"))
        if path.is_dir():
            self.assertEqual(path, self.directory.resolve())
            self.steps.append("directory flushed")
        else:
            # All of it was handed to the system, and not yet under the final name.
            self.assertEqual(path.read_bytes(), b"epoch 7\nvoted b\n")
            self.assertEqual(path.parent, self.directory.resolve())
            self.assertNotEqual(path.name, self.file.name)
            self.beside.add(path.name)
            self.steps.append("file flushed")

    def on_rename(self, source: str, target: str, src_dir_fd: int, dst_dir_fd: int) -> None:
        self.assertIn(source, self.beside)
        self.assertEqual(src_dir_fd, dst_dir_fd)
        directory = os.readlink(f"/proc/self/fd/{dst_dir_fd}")
        self.assertEqual(Path(directory, target), self.file.resolve())
        self.steps.append("renamed")

    def test_order(self) -> None:
        self.ballot.save(7, "b")
        self.assertEqual(self.steps, ["file flushed", "renamed", "directory flushed"])


class UnreadableFiles(SynchronousTestCase):
    """Whatever is not exactly a ballot is refused: never taken for a fresh start."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.file = self.directory / "elect.meta"

    def refused(self, text: bytes) -> None:
        self.file.write_bytes(text)
        error = self.assertRaises(BallotError, FileBallot(self.directory).load)
        self.assertIn(str(self.file), str(error))
        self.assertIn("replace the file", str(error).replace("\n", " "))
        self.assertEqual(self.file.read_bytes(), text)

    def test_every_proper_prefix(self) -> None:
        whole = b"epoch 1234\nvoted node-1\n"
        for length in range(len(whole)):
            self.refused(whole[:length])

    def test_garbage(self) -> None:
        for text in (b"\0" * 24, b"epoch\n", b"\xff\xfe", b"epoch -1\nvoted b\n", b"x" * 10**5):
            self.refused(text)

    def test_lines_that_are_not_quite_right(self) -> None:
        for text in (
            b"epoch 7\r\nvoted b\r\n",
            b"epoch 7\nvoted \n",
            b"epoch \nvoted b\n",
            b"epoch  7\nvoted b\n",
            b"Epoch 7\nvoted b\n",
            b"voted b\nepoch 7\n",
            b"epoch 7\nvoted b c\n",
            b"epoch +7\nvoted b\n",
            b"epoch 7 \nvoted b\n",
            b"epoch 7\nvoted " + b"b" * 33 + b"\n",
            "epoch ٧\nvoted b\n".encode(),
        ):
            self.refused(text)

    def test_an_epoch_beyond_64_bits(self) -> None:
        self.refused(b"epoch 18446744073709551616\nvoted b\n")
        self.refused(b"epoch 99999999999999999999\nvoted -\n")
        self.refused(b"epoch " + b"9" * 5000 + b"\nvoted -\n")

    def test_more_lines(self) -> None:
        self.refused(b"epoch 7\nvoted b\n\n")
        self.refused(b"epoch 7\nvoted b\nepoch 8\n")
        self.refused(b"\nepoch 7\nvoted b\n")

    def test_a_directory_in_its_place(self) -> None:
        self.file.mkdir()
        error = self.assertRaises(BallotError, FileBallot(self.directory).load)
        self.assertIn(str(self.file), str(error))

    def test_a_file_in_place_of_the_directory(self) -> None:
        self.directory.rmdir()
        self.directory.write_text("")
        self.assertRaises(BallotError, FileBallot(self.directory).load)


class FailingSaves(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.ballot = FileBallot(self.directory)
        self.ballot.save(7, "b")

    def assert_save_fails(self) -> None:
        error = self.assertRaises(BallotError, self.ballot.save, 8, "c")
        self.assertIn("elect.meta", str(error))
        self.assertEqual(self.ballot.load(), (7, "b"))

    def test_the_rename_fails(self) -> None:
        self.patch(os, "replace", refusing)
        self.assert_save_fails()

    def test_the_flush_fails(self) -> None:
        self.patch(os, "fsync", refusing)
        self.assert_save_fails()

    def test_the_file_beside_cannot_be_opened(self) -> None:
        for name in ("elect.tmp", "elect.meta.tmp"):
            (self.directory / name).mkdir()
        self.assert_save_fails()

    def test_the_directory_is_a_file(self) -> None:
        directory = Path(self.mktemp())
        directory.write_text("")
        self.assertRaises(BallotError, FileBallot(directory).save, 8, "c")
        self.assertRaises(BallotError, FileBallot(directory / "below").save, 8, "c")

    def test_a_save_that_works_again(self) -> None:
        patch = self.patch(os, "replace", refusing)
        self.assert_save_fails()
        patch.restore()
        self.ballot.save(8, "c")
        self.assertEqual(self.ballot.load(), (8, "c"))

    def test_a_crash_between_writing_and_renaming(self) -> None:
        class Crash(BaseException):
            pass

        def crash(*_: object, **__: object) -> None:
            raise Crash

        patch = self.patch(os, "replace", crash)
        self.assertRaises(Crash, self.ballot.save, 8, "c")
        patch.restore()
        next_life = FileBallot(self.directory)
        self.assertEqual(next_life.load(), (7, "b"))
        next_life.save(9, None)
        self.assertEqual(next_life.load(), (9, None))


class Links(SynchronousTestCase):
    """What a link leads to is neither read nor written."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.elsewhere = Path(self.mktemp())
        self.elsewhere.write_bytes(b"epoch 7\nvoted b\n")

    def link(self, name: str) -> Path:
        link = self.directory / name
        link.symlink_to(self.elsewhere.resolve())
        return link

    def test_a_ballot_that_is_a_link_is_refused(self) -> None:
        self.link("elect.meta")
        error = self.assertRaises(BallotError, FileBallot(self.directory).load)
        self.assertIn("symbolic link", str(error))

    def test_a_link_in_the_way_of_a_save_is_removed(self) -> None:
        self.link("elect.tmp")
        FileBallot(self.directory).save(9, "c")
        self.assertEqual(self.elsewhere.read_bytes(), b"epoch 7\nvoted b\n")
        self.assertEqual((self.directory / "elect.meta").read_bytes(), b"epoch 9\nvoted c\n")

    def test_a_lock_that_is_a_link_is_refused(self) -> None:
        self.link("elect.lock")
        error = self.assertRaises(BallotError, DirectoryLock, self.directory, "a")
        self.assertIn("elect.lock", str(error))
        self.assertEqual(self.elsewhere.read_bytes(), b"epoch 7\nvoted b\n")

    def test_a_directory_may_be_a_link(self) -> None:
        link = Path(self.mktemp())
        link.symlink_to(self.directory.resolve())
        lock = DirectoryLock(link, "a")
        self.addCleanup(lock.release)
        FileBallot(link, lock).save(9, "c")
        self.assertEqual(FileBallot(self.directory).load(), (9, "c"))

    def test_a_pipe_is_no_ballot_and_not_waited_for(self) -> None:
        os.mkfifo(self.directory / "elect.meta")
        self.assertRaises(BallotError, FileBallot(self.directory).load)


class TheLockedDirectory(SynchronousTestCase):
    """A ballot is saved in the directory that was locked, or not at all."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.lock = DirectoryLock(self.directory, "a")
        self.addCleanup(self.lock.release)
        self.ballot = FileBallot(self.directory, self.lock)
        self.ballot.save(7, "b")
        self.elsewhere = Path(self.mktemp())

    def assert_save_fails(self) -> None:
        error = self.assertRaises(BallotError, self.ballot.save, 8, "c")
        self.assertIn(str(self.directory), str(error))

    def test_a_removed_one_is_not_made_again(self) -> None:
        shutil.rmtree(self.directory)
        self.assert_save_fails()
        self.assertFalse(self.directory.exists())

    def test_another_in_its_place_is_left_alone(self) -> None:
        self.directory.rename(self.elsewhere)
        self.assert_save_fails()
        self.directory.mkdir()
        self.assert_save_fails()
        DirectoryLock(self.directory, "a").release()
        self.assert_save_fails()
        self.assertEqual(os.listdir(self.directory), ["elect.lock"])

    def test_one_that_is_put_back_is_used_again(self) -> None:
        self.directory.rename(self.elsewhere)
        self.assert_save_fails()
        self.elsewhere.rename(self.directory)
        self.ballot.save(8, "c")
        self.assertEqual(FileBallot(self.directory).load(), (8, "c"))

    def test_without_its_lock_file_it_is_not_used(self) -> None:
        (self.directory / "elect.lock").unlink()
        self.assert_save_fails()
        self.assertEqual(FileBallot(self.directory).load(), (7, "b"))

    def test_a_process_may_go_elsewhere(self) -> None:
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir("/")
        self.ballot.save(8, "c")

    def test_without_a_lock_it_is_made_once_only(self) -> None:
        ballot = FileBallot(self.elsewhere)
        ballot.save(7, "b")
        shutil.rmtree(self.elsewhere)
        self.assertRaises(BallotError, ballot.save, 8, "c")
        self.assertFalse(self.elsewhere.exists())


class OneUsersDirectory(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(self.mktemp())

    def refused(self) -> str:
        return str(self.assertRaises(BallotError, DirectoryLock, self.directory, "a"))

    def mode(self, path: Path) -> int:
        return stat.S_IMODE(path.stat().st_mode)

    def test_what_is_made_is_for_this_user_alone(self) -> None:
        lock = DirectoryLock(self.directory, "a")
        self.addCleanup(lock.release)
        FileBallot(self.directory, lock).save(7, "b")
        self.assertEqual(self.mode(self.directory), 0o700)
        self.assertEqual(self.mode(self.directory / "elect.lock"), 0o600)
        self.assertEqual(self.mode(self.directory / "elect.meta"), 0o600)

    def test_a_lock_file_that_others_could_open_is_closed_to_them(self) -> None:
        self.directory.mkdir()
        (self.directory / "elect.lock").touch(0o644)
        DirectoryLock(self.directory, "a").release()
        self.assertEqual(self.mode(self.directory / "elect.lock"), 0o600)

    def test_one_that_others_can_write_is_refused(self) -> None:
        self.directory.mkdir()
        for mode in (0o777, 0o1777, 0o775, 0o702):
            self.directory.chmod(mode)
            self.assertIn("chmod go-w", self.refused())
        self.directory.chmod(0o755)
        DirectoryLock(self.directory, "a").release()

    def test_one_of_another_user_is_refused(self) -> None:
        self.directory.mkdir()
        self.patch(os, "geteuid", lambda: self.directory.stat().st_uid + 1)
        self.assertIn("chown", self.refused())

    def test_no_descriptor_is_left_of_a_refusal(self) -> None:
        self.directory.mkdir()
        self.directory.chmod(0o777)
        before = os.listdir("/proc/self/fd")
        self.refused()
        self.assertEqual(os.listdir("/proc/self/fd"), before)


OTHER_PROCESS = """
import sys, time
from kevy_elect.directory import DirectoryLock
from kevy_elect.errors import BallotError
try:
    lock = DirectoryLock(sys.argv[1], "other")
except BallotError as error:
    print("refused:", error, flush=True)
else:
    print("taken", flush=True)
    time.sleep(60)
"""


class Locking(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(self.mktemp())

    def lock(self, node_id: str) -> DirectoryLock:
        lock = DirectoryLock(self.directory, node_id)
        self.addCleanup(lock.release)
        return lock

    def other_process(self) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", OTHER_PROCESS, str(self.directory)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )

        def end() -> None:
            process.kill()
            process.communicate()

        self.addCleanup(end)
        return process

    def says(self, process: subprocess.Popen[str]) -> str:
        assert process.stdout is not None
        return process.stdout.readline()

    def test_a_full_disk_does_not_keep_a_node_from_its_directory(self) -> None:
        def full(*_: object) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        directory = self.mktemp()
        self.patch(os, "pwrite", full)
        lock = DirectoryLock(directory, "a")
        self.addCleanup(lock.release)
        self.assertRaises(BallotError, DirectoryLock, directory, "b")

    def test_the_second_is_refused_and_told_who_holds_it(self) -> None:
        self.lock("n1")
        error = self.assertRaises(BallotError, DirectoryLock, self.directory, "n2")
        for word in ("n1", "n2", str(self.directory)):
            self.assertIn(word, str(error))

    def test_two_directories_are_no_conflict(self) -> None:
        self.lock("n1")
        DirectoryLock(self.directory / "other", "n2").release()

    def test_released_it_can_be_taken(self) -> None:
        lock = self.lock("n1")
        lock.release()
        lock.release()
        self.lock("n2")
        error = self.assertRaises(BallotError, DirectoryLock, self.directory, "n3")
        self.assertIn("n2", str(error))

    def test_who_really_holds_it_is_named(self) -> None:
        self.lock("n1").release()
        with open(self.directory / "elect.lock") as file:
            fcntl.flock(file, fcntl.LOCK_SH)
            (self.directory / "elect.lock").write_text("n1 (process 999999999)\n")
            error = self.assertRaises(BallotError, DirectoryLock, self.directory, "n1")
        self.assertIn(f"process {os.getpid()} (", str(error))
        self.assertNotIn("999999999", str(error))

    def test_a_refused_one_does_not_disturb_the_holder(self) -> None:
        self.lock("n1")
        for _ in range(2):
            self.assertRaises(BallotError, DirectoryLock, self.directory, "n2")

    def test_it_leaves_the_ballot_alone(self) -> None:
        FileBallot(self.directory).save(7, "b")
        self.lock("n1").release()
        self.assertEqual(FileBallot(self.directory).load(), (7, "b"))

    def test_a_directory_that_cannot_be(self) -> None:
        self.directory.write_text("")
        error = self.assertRaises(BallotError, DirectoryLock, self.directory, "n1")
        self.assertIn(str(self.directory), str(error))

    def test_another_process_is_refused(self) -> None:
        self.lock("n1")
        answer = self.says(self.other_process())
        self.assertIn("refused:", answer)
        for word in ("n1", "other", str(self.directory)):
            self.assertIn(word, answer)

    def test_a_killed_process_leaves_no_lock(self) -> None:
        process = self.other_process()
        self.assertEqual(self.says(process), "taken\n")
        error = self.assertRaises(BallotError, DirectoryLock, self.directory, "n1")
        self.assertIn("other", str(error))
        process.send_signal(signal.SIGKILL)
        deadline = time.monotonic() + 10
        while True:
            try:
                self.lock("n1")
                return
            except BallotError:
                self.assertLess(time.monotonic(), deadline)
