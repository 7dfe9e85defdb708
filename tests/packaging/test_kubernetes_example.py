"""examples/kubernetes.yaml against the schemas of Kubernetes, and against itself."""

from __future__ import annotations

import os
from typing import Any
from unittest import skipIf

from twisted.trial.unittest import SynchronousTestCase

from kevy_elect.ops.health import QUESTIONS
from kevy_elect.tap import Options
from tests.support import ROOT

try:
    import kubernetes_validate
    import yaml
except ImportError:
    kubernetes_validate = None

EXAMPLE = ROOT / "examples/kubernetes.yaml"
VERSIONS = ("1.29", "1.34")
"""The oldest to support all that is used, and one of the newest."""

needs_schemas = skipIf(
    kubernetes_validate is None,
    "kubernetes-validate, which brings the schemas of Kubernetes, is not installed",
)


@needs_schemas
class KubernetesExampleTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.objects: list[dict[str, Any]] = list(yaml.safe_load_all(EXAMPLE.read_text()))
        self.set = self.one("StatefulSet", "elect")["spec"]
        self.pod = self.set["template"]
        self.node = self.pod["spec"]["containers"][0]
        self.ports = {port["name"]: port["containerPort"] for port in self.node["ports"]}
        self.names = [f"elect-{number}" for number in range(self.set["replicas"])]

    def one(self, kind: str, name: str) -> dict[str, Any]:
        (found,) = (
            each
            for each in self.objects
            if (each["kind"], each["metadata"]["name"]) == (kind, name)
        )
        return found

    def options(self, name: str) -> Options:
        """What the node of this pod is told, as it understands it."""
        options = Options()
        options.parseOptions([each.replace("$(POD_NAME)", name) for each in self.node["args"]])
        return options

    def test_each_object_is_valid(self) -> None:
        for version in VERSIONS:
            for each in self.objects:
                kubernetes_validate.validate(each, version, strict=True)

    def test_a_field_that_is_not_there_would_be_found(self) -> None:
        self.set["podManagmentPolicy"] = "Parallel"
        with self.assertRaises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(self.one("StatefulSet", "elect"), VERSIONS[-1], True)

    def test_each_pod_is_a_member_under_the_name_that_it_has_in_the_cluster(self) -> None:
        service = self.one("Service", self.set["serviceName"])["spec"]
        self.assertEqual(
            (service["clusterIP"], service["publishNotReadyAddresses"]), ("None", True)
        )
        for name in self.names:
            cluster = self.options(name).cluster
            self.assertEqual(cluster.node_id, name)
            self.assertEqual(list(cluster.ids), self.names)
            self.assertEqual(cluster.me.host, f"{name}.{self.set['serviceName']}")
            self.assertEqual(cluster.me.elect_port, self.ports["election"])
            self.assertEqual(cluster.me.client_port, self.ports["service"])

    def test_the_node_listens_where_it_is_looked_for(self) -> None:
        options = self.options("elect-0")
        self.assertEqual(options["listen"], f"tcp:{self.ports['election']}")
        self.assertEqual(options["http"], f"tcp:{self.ports['http']}")
        for service in ("elect-nodes", "elect-primary"):
            for port in self.one("Service", service)["spec"]["ports"]:
                self.assertEqual(port["port"], self.ports[port["name"]])

    def test_the_vote_is_kept_on_the_volume(self) -> None:
        (mount,) = self.node["volumeMounts"]
        (claim,) = self.set["volumeClaimTemplates"]
        self.assertEqual(mount["name"], claim["metadata"]["name"])
        # Below the volume, whose own directory belongs to root and its group.
        self.assertEqual(os.path.dirname(self.options("elect-0")["data-dir"]), mount["mountPath"])

    def test_probes_ask_what_a_node_answers(self) -> None:
        probes = {name: self.node[f"{name}Probe"]["httpGet"] for name in ("liveness", "readiness")}
        for name, probe in probes.items():
            self.assertEqual(probe, {"path": f"/{name}", "port": "http"})
            self.assertIn(name.encode(), QUESTIONS)

    def test_clients_are_led_to_the_pod_with_the_label_of_the_primary(self) -> None:
        selector = self.one("Service", "elect-primary")["spec"]["selector"]
        self.assertEqual(selector, self.pod["metadata"]["labels"] | {"role": "primary"})
        command = self.options("elect-0").commands["on-change"]
        self.assertIn('role="$KEVY_ROLE"', command[-1])

    def test_each_pod_may_label_itself(self) -> None:
        (rule,) = self.one("Role", "elect")["rules"]
        self.assertEqual(rule["resourceNames"], self.names)
        self.assertIn("patch", rule["verbs"])
        binding = self.one("RoleBinding", "elect")
        self.assertEqual(binding["roleRef"]["name"], "elect")
        account = self.pod["spec"]["serviceAccountName"]
        self.assertEqual([each["name"] for each in binding["subjects"]], [account])

    def test_the_budget_and_the_policy_are_about_these_pods(self) -> None:
        labels = self.pod["metadata"]["labels"]
        self.assertEqual(self.set["selector"]["matchLabels"], labels)
        budget = self.one("PodDisruptionBudget", "elect")["spec"]
        self.assertEqual((budget["selector"]["matchLabels"], budget["maxUnavailable"]), (labels, 1))
        policy = self.one("NetworkPolicy", "elect")["spec"]
        self.assertEqual(policy["podSelector"]["matchLabels"], labels)
        self.assertEqual(set(self.allowed()), set(self.ports))

    def allowed(self) -> dict[str, list[dict[str, Any]] | None]:
        """Who may reach each port; None is anybody."""
        policy = self.one("NetworkPolicy", "elect")["spec"]
        return {
            each["port"]: rule.get("from") for rule in policy["ingress"] for each in rule["ports"]
        }

    def test_only_members_reach_the_links_and_only_prometheus_the_pages_besides(self) -> None:
        members = {"podSelector": {"matchLabels": self.pod["metadata"]["labels"]}}
        allowed = self.allowed()
        self.assertEqual(allowed["election"], [members])
        member, monitoring = allowed["http"] or []
        self.assertEqual((member, list(monitoring)), (members, ["namespaceSelector"]))
        self.assertIsNone(allowed["service"])

    def test_nothing_in_a_pod_can_gain_privileges(self) -> None:
        context = self.pod["spec"]["securityContext"] | self.node["securityContext"]
        self.assertTrue(context["runAsNonRoot"])
        self.assertIs(context["allowPrivilegeEscalation"], False)
        self.assertEqual(context["capabilities"], {"drop": ["ALL"]})
        self.assertEqual(context["seccompProfile"], {"type": "RuntimeDefault"})

    def test_what_a_pod_takes_has_bounds_that_do_not_stop_the_election(self) -> None:
        limits = self.node["resources"]["limits"]
        self.assertEqual(set(limits), {"memory", "ephemeral-storage"})
        self.assertIn("cpu", self.node["resources"]["requests"])
