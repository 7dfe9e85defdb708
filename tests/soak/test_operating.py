"""docs/operating.md: its transcript has the same commands, and its promises hold."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from itertools import combinations

import attrs
from twisted.trial.unittest import SynchronousTestCase

from kevy_elect.config import ElectConfig, quorum
from kevy_elect.elector import Elector
from kevy_elect.testing import SimulatedCluster, Violation
from kevy_elect.testing.checkers import (
    Checker,
    EpochsRise,
    OnePrimaryPerEpoch,
    OneVotePerEpoch,
    OneWriter,
)
from tests.soak.operating.page import Command, commands, prompted, typed
from tests.soak.operating.trial import Trial, Typed
from tests.support import ROOT
from tests.support.unmeasured import Unmeasured

DOCS = ROOT / "docs"
QUICK = ElectConfig(
    hb_interval=0.05,
    down_after=0.5,
    election_timeout=0.5,
    election_backoff=0.1,
    election_backoff_jitter=0.4,
)
SLOW = attrs.evolve(QUICK, down_after=1.0, lease_margin=0.25, ack_margin=0.02, lease_duration=0.98)
BETWEEN = attrs.evolve(SLOW, lease_duration=QUICK.lease_duration)
"""The first step of increasing and of decreasing: the longer promise, the shorter lease."""
LONG = 4.0
"""Seconds after which every expected event has happened, at these timings."""


class PageTests(SynchronousTestCase):
    """The commands of a page, and the comparison of their output."""

    def test_a_prompt_names_the_hosts(self) -> None:
        page = "## One\n```console\nab# date\nw$ echo\n```\n"
        self.assertEqual(
            commands(page),
            [Command(3, "One", "ab", "date"), Command(4, "One", "w", "echo")],
        )
        self.assertEqual(typed(commands(page)), [("a", "date"), ("b", "date"), ("w", "echo")])

    def test_other_blocks_and_text_are_no_commands(self) -> None:
        self.assertEqual(commands("a# date\n```sh\na# date\n```\n`b# date`\n"), [])

    def test_a_command_may_have_several_lines(self) -> None:
        (command,) = commands("```console\na# cat <<END\n> x\n>\n> END\n```\n")
        self.assertEqual(command.text, "cat <<END\nx\n\nEND")
        again = f"```console\n{prompted('a', command.text)}\n```\n"
        self.assertEqual(commands(again)[0].text, command.text)

    def test_a_block_without_a_command_is_refused(self) -> None:
        self.assertRaises(ValueError, commands, "```console\nno prompt\n```\n")

    def test_output_agrees_line_by_line(self) -> None:
        command = Command(1, "", "a", "x", ("one …s", "two"))
        self.assertTrue(command.agrees("one 0.1 s\ntwo\n"))
        self.assertFalse(command.agrees("one 0.1 s\n"))
        self.assertFalse(command.agrees("one 0.1 s\ntwo\nthree\n"))
        self.assertFalse(command.agrees("one\n0.1 s\ntwo\n"))

    def test_a_line_of_anything_stands_for_any_lines(self) -> None:
        command = Command(1, "", "a", "x", ("…", "two", "…"))
        for told in ("two\n", "one\ntwo\n", "one\n\ntwo\nthree\nfour\n"):
            self.assertTrue(command.agrees(told))
        self.assertFalse(command.agrees("one\n"))

    def test_output_that_is_not_shown_may_be_anything(self) -> None:
        self.assertTrue(Command(1, "", "a", "x").agrees("what\never\n"))


class TranscriptTests(SynchronousTestCase):
    def test_the_transcript_has_the_commands_of_the_page(self) -> None:
        page = commands((DOCS / "operating.md").read_text(encoding="utf-8"))
        transcript = commands((DOCS / "operating-transcript.md").read_text(encoding="utf-8"))
        self.assertEqual(typed(transcript), typed(page), "run python -m tests.soak.operating")

    def test_the_transcript_is_of_a_trial_without_losses(self) -> None:
        text = (DOCS / "operating-transcript.md").read_text(encoding="utf-8")
        self.assertIn("\n- Violations: 0.\n", text)


class CountingTests(SynchronousTestCase):
    """A trial without increments proves nothing."""

    def idle(self, *acknowledged: float) -> list[str]:
        trial = Trial(site=None, tell=lambda text: None)  # type: ignore[arg-type]
        for number, section in enumerate(("One", "Two", "Three")):
            trial.typed.append(Typed(section, "a", "x", "", number, number + 1))
        return trial.idle(acknowledged)

    def test_all_sections_after_the_first_increment_need_some(self) -> None:
        self.assertEqual(self.idle(1.5, 2.5), [])
        self.assertEqual(self.idle(0.5, 2.5), ["nobody counted during 'Two'"])
        self.assertEqual(self.idle(), ["nobody counted"])


class Changing:
    """A simulated cluster in which each node has its own list of members."""

    def __init__(
        self, seed: int, lists: dict[str, Sequence[str]], checkers: Sequence[Checker] | None = None
    ) -> None:
        """`lists` are those at the start. A node without a list does not run yet."""
        names = [f"n{number}" for number in range(1, 6)]
        self.lists = lists = {name: lists.get(name, [name]) for name in names}
        self._listed = {name for name in names if len(lists[name]) > 1}

        class Listed(Elector):
            def __init__(self, node_id: str, peer_ids: object, *args: str, **rest: object) -> None:
                super().__init__(node_id, lists[node_id], *args, **rest)  # type: ignore[arg-type]

        self.cluster = SimulatedCluster(
            names,
            QUICK,
            seed=seed,
            checkers=checkers
            or [OnePrimaryPerEpoch(), OneVotePerEpoch(), OneWriter(), EpochsRise()],
            elector=Listed,
        )
        self.cluster.tracing = False
        for name in names:
            if name not in self._listed:
                self.cluster.crash(name)
        self.separate()

    def separate(self) -> None:
        """Cut the links between nodes that are not in each other's list."""
        for one, other in combinations(self.lists, 2):
            if one not in self.lists[other] or other not in self.lists[one]:
                self.cluster.cut(one, other)

    def relist(self, name: str, members: Sequence[str]) -> None:
        """Start or restart a node with another list."""
        if self.cluster.nodes[name].running:
            self.cluster.resume(name)
            self.cluster.crash(name)
        self.lists[name] = members
        self._listed.add(name)
        self.mend()
        self.cluster.restart(name)

    def remove(self, name: str) -> None:
        self.cluster.resume(name)
        if self.cluster.nodes[name].running:
            self.cluster.crash(name)
        self._listed.discard(name)

    def mend(self) -> None:
        self.cluster.heal()
        self.separate()

    def part(self, *groups: Iterable[str]) -> None:
        self.cluster.partition(*groups)
        self.separate()

    def harm(self, rng: random.Random) -> None:
        """Cause a random fault for a while."""
        running = sorted(self._listed)
        victim = rng.choice(running)
        match rng.choice(("part", "crash", "pause", "mend", "calm")):
            case "part":
                side = [name for name in running if rng.random() < 0.5]
                self.part(side, [name for name in running if name not in side])
            case "crash" if self.cluster.nodes[victim].running:
                self.cluster.resume(victim)
                self.cluster.crash(victim)
                self.cluster.advance(rng.uniform(0, 1))
                self.cluster.restart(victim)
            case "pause" if self.cluster.nodes[victim].running:
                self.cluster.pause(victim)
                self.cluster.advance(rng.uniform(0, 1))
                self.cluster.resume(victim)
            case "mend":
                self.mend()
        self.cluster.advance(rng.uniform(0, 1))


def members(*numbers: int) -> list[str]:
    return [f"n{number}" for number in numbers]


class MembersTests(Unmeasured):
    """Changes of the members."""

    STEPS = (members(1, 2, 3, 4), members(1, 2, 3, 4, 5), members(1, 2, 4, 5))

    def test_majorities_of_neighbouring_sizes_share_a_member(self) -> None:
        for size in range(1, 100):
            self.assertGreater(quorum(size) + quorum(size + 1), size + 1)

    def test_one_member_at_a_time_is_safe_under_faults(self) -> None:
        for seed in range(8):
            rng = random.Random(seed)
            trio = members(1, 2, 3)
            changing = Changing(seed, dict.fromkeys(trio, trio))
            changing.cluster.advance(2)
            for step in self.STEPS:
                for name in rng.sample(step, len(step)):
                    changing.relist(name, step)
                    changing.harm(rng)
                for name in set(changing.lists) - set(step):
                    changing.remove(name)
                changing.mend()
                changing.cluster.advance(LONG)
                self.assertEqual(len(changing.cluster.writers()), 1)

    def test_two_added_at_once_can_make_two_writers_in_one_epoch(self) -> None:
        trio, five = members(1, 2, 3), members(1, 2, 3, 4, 5)
        changing = Changing(1, dict.fromkeys(trio, trio))
        changing.cluster.advance(2)
        self.assertEqual(changing.cluster.writers(), ["n1"])
        for name in ("n3", "n4", "n5"):
            changing.relist(name, five)
        changing.part(["n1", "n2"], ["n3", "n4", "n5"])
        changing.cluster.hand_over("n2")
        self.assertRaises(Violation, changing.cluster.advance, LONG)
        self.assertEqual(len(changing.cluster.writers()), 2)
        broken = {violation.promise for violation in changing.cluster.violations}
        self.assertEqual(broken, {OneWriter.promise, OnePrimaryPerEpoch.promise})

    def test_an_exchange_in_one_step_can_make_two_writers(self) -> None:
        old, new = members(1, 2, 3), members(1, 2, 4)
        changing = Changing(1, dict.fromkeys(old, old))
        changing.cluster.advance(2)
        for name in ("n2", "n4"):
            changing.relist(name, new)
        changing.part(["n1", "n3"], ["n2", "n4"])
        self.assertRaises(Violation, changing.cluster.advance, LONG)
        self.assertEqual(len(changing.cluster.writers()), 2)

    def test_a_member_two_steps_behind_can_make_two_writers(self) -> None:
        trio, five = members(1, 2, 3), members(1, 2, 3, 4, 5)
        changing = Changing(1, dict.fromkeys(five, five))
        changing.cluster.advance(2)
        for name in ("n1", "n2"):
            changing.relist(name, trio)
        changing.part(["n1", "n2"], ["n3", "n4", "n5"])
        self.assertRaises(Violation, changing.cluster.advance, LONG)


class LostBallotTests(Unmeasured):
    """The data directory of n3 is lost or damaged, after its vote for n2 in epoch 3."""

    def lose(self) -> SimulatedCluster:
        """n2 was primary of epoch 3 and is down. n1 never heard of that, and is in epoch 2."""
        cluster = SimulatedCluster(3, QUICK, seed=1, checkers=[OnePrimaryPerEpoch(), OneWriter()])
        self.assertEqual(cluster.settle(), "n1")
        cluster.crash("n1")
        cluster.advance(LONG)
        self.assertEqual((cluster.writers(), cluster.nodes["n2"].elector.epoch), (["n2"], 3))
        cluster.crash("n2")
        cluster.crash("n3")
        return cluster

    def restart_with(self, cluster: SimulatedCluster, epoch: int) -> None:
        cluster.replace_disk("n3", epoch)
        cluster.restart("n1")
        cluster.restart("n3")

    def test_without_the_ballot_an_epoch_can_get_a_second_primary(self) -> None:
        cluster = self.lose()
        self.restart_with(cluster, 0)
        with self.assertRaises(Violation) as caught:
            cluster.advance(LONG)
        self.assertEqual(caught.exception.promise, OnePrimaryPerEpoch.promise)

    def test_the_epoch_of_running_members_alone_does_not_prevent_that(self) -> None:
        cluster = self.lose()
        self.restart_with(cluster, 2)
        self.assertRaises(Violation, cluster.advance, LONG)

    def test_the_highest_epoch_of_all_others_prevents_that(self) -> None:
        cluster = self.lose()
        self.restart_with(cluster, cluster.nodes["n2"].disk.load()[0])
        cluster.advance(LONG)
        self.assertEqual(len(cluster.writers()), 1)
        self.assertGreater(max(node.elector.epoch for node in cluster.running()), 3)

    def test_a_far_higher_epoch_prevents_that_and_a_switchover_moves_all_to_it(self) -> None:
        cluster = self.lose()
        self.restart_with(cluster, 1_000_002)
        cluster.restart("n2")
        leader = cluster.settle()
        cluster.hand_over("n2" if leader != "n2" else "n3")
        cluster.advance(LONG)
        cluster.settle()
        (epoch,) = {node.elector.epoch for node in cluster.running()}
        self.assertGreater(epoch, 1_000_002)

    def test_a_far_higher_epoch_does_not_unseat_the_primary(self) -> None:
        cluster = SimulatedCluster(3, QUICK, seed=1)
        self.assertEqual(cluster.settle(), "n1")
        cluster.crash("n3")
        cluster.replace_disk("n3", 1_000_002)
        cluster.restart("n3")
        for _ in range(40):
            cluster.advance(LONG / 40)
            self.assertEqual(cluster.writers(), ["n1"])

    def test_no_two_write_at_once_without_the_ballot(self) -> None:
        """n3 backs n1, loses its ballot, and is asked by n2, which has not heard n1 for long."""
        for seed in range(10):
            cluster = SimulatedCluster(3, QUICK, seed=seed, checkers=[OneWriter()])
            self.assertEqual(cluster.settle(), "n1")
            cluster.cut("n1", "n2")
            cluster.advance(LONG)
            self.assertEqual(cluster.writers(), ["n1"])
            cluster.crash("n3")
            cluster.replace_disk("n3")
            cluster.isolate("n1")
            cluster.restart("n3")
            cluster.advance(LONG)
            self.assertIn(cluster.writers(), (["n2"], ["n3"]))


class TimingsTests(Unmeasured):
    """Changes of the timings: down_after is increased and decreased, under faults."""

    def test_one_step_with_a_failover_can_make_two_writers(self) -> None:
        """n2 leads with the longer lease, and n1 promises less."""
        cluster = self.failed_over_within(SLOW)
        with self.assertRaises(Violation) as caught:
            self.cut_off_twice(cluster)
        self.assertEqual(caught.exception.promise, OneWriter.promise)

    def test_two_steps_with_a_failover_cannot(self) -> None:
        cluster = self.failed_over_within(BETWEEN)
        self.cut_off_twice(cluster)
        cluster.heal()
        cluster.settle()

    def failed_over_within(self, step: ElectConfig) -> SimulatedCluster:
        """n2 and n3 took the step. n1 failed and came back without it. n2 is primary."""
        cluster = SimulatedCluster(3, QUICK, seed=1, checkers=[OneWriter()])
        self.assertEqual(cluster.settle(), "n1")
        for name in ("n2", "n3"):
            cluster.use_timings(name, step)
        cluster.crash("n1")
        cluster.advance(LONG)
        cluster.restart("n1")
        cluster.advance(LONG)
        self.assertEqual(cluster.writers(), ["n2"])
        return cluster

    def cut_off_twice(self, cluster: SimulatedCluster) -> None:
        """n2 loses n3 first, and n1, on which its lease then depends, later."""
        cluster.cut("n2", "n3")
        cluster.advance(LONG)
        cluster.cut("n2", "n1")
        cluster.advance(LONG)

    def test_two_steps_are_safe_under_faults(self) -> None:
        for seed in range(40):
            self.change(seed, [BETWEEN, SLOW, BETWEEN, QUICK])

    def test_one_step_is_not_safe_under_faults(self) -> None:
        """Run the same faults in one step, so that the test before this one is known to be able to
        fail."""
        with self.assertRaises(Violation) as caught:
            for seed in range(200):
                self.change(seed, [SLOW, QUICK])
        self.assertEqual(caught.exception.promise, OneWriter.promise)

    def change(self, seed: int, steps: list[ElectConfig]) -> None:
        """Give each member one step after another, with faults between any two members."""
        rng = random.Random(seed)
        cluster = SimulatedCluster(3, QUICK, seed=seed, checkers=[OneWriter()])
        cluster.settle()
        names = list(cluster.nodes)
        for step in steps:
            for name in rng.sample(names, len(names)):
                cluster.use_timings(name, step)
                for _ in range(rng.randrange(4)):
                    self.disturb(cluster, rng)
            cluster.heal()
            self.restart_all(cluster)
            cluster.settle()

    def disturb(self, cluster: SimulatedCluster, rng: random.Random) -> None:
        one, other = rng.sample(list(cluster.nodes), 2)
        down = [name for name, node in cluster.nodes.items() if not node.running]
        match rng.randrange(5):
            case 0 if not down:
                cluster.crash(one)
            case 1:
                self.restart_all(cluster)
            case 2:
                cluster.heal()
            case 3:
                cluster.cut_one_way(one, other)
            case _:
                cluster.cut(one, other)
        cluster.advance(rng.uniform(0.0, 2.0))

    def restart_all(self, cluster: SimulatedCluster) -> None:
        for name, node in cluster.nodes.items():
            if not node.running:
                cluster.restart(name)
