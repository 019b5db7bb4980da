"""The files of an installation are well-formed, hardened, and agree with each other and with the program."""

import os
import re
import tempfile
import unittest
from pathlib import Path

from files import COMPOSE, HANDOVER, ROOT, composed, dockerfile, manifests, replaced, run, unit

# The oldest version whose API has what the manifests use, and the newest that the checker knows.
KUBERNETES = ["1.30", "1.37"]
# Exposure in the words of systemd-analyze: 0 is nothing at all, 100 everything. What is left is the network.
EXPOSURE = 15


class Scripts(unittest.TestCase):
    def test_a_shell_finds_nothing_odd_in_them(self):
        scripts = [ROOT / name for name in ("scripts/release", "scripts/check-deploy", "deploy/compose/prepare")]

        run("shellcheck", "--severity=style", *scripts)


class TheDockerfile(unittest.TestCase):
    def test_hadolint_has_nothing_to_say(self):
        run("hadolint", "--failure-threshold", "style", "Dockerfile", cwd=ROOT)

    def test_bases_are_arguments_with_a_version_and_the_user_is_a_number(self):
        arguments, stages = dockerfile()

        self.assertEqual(len(stages), 2)
        for stage in stages:
            self.assertIn(stage.base, arguments.values(), "a base can be pinned only as an argument")
            self.assertRegex(stage.base, r":[\w.-]+$")
            self.assertFalse(stage.base.endswith(":latest"))
        self.assertRegex(stages[-1].last("USER"), r"^[1-9]\d+:[1-9]\d+$")
        self.assertEqual([stage.all("ADD") for stage in stages], [[], []])
        self.assertEqual(stages[-1].all("RUN"), [], "there is no shell in the last image")

    def test_the_toolchain_is_new_enough_for_the_manifest(self):
        arguments, _ = dockerfile()
        least = re.search(r'rust-version = "(\d+)\.(\d+)"', (ROOT / "Cargo.toml").read_text()).groups()
        image = re.search(r"rust:(\d+)\.(\d+)\.", arguments["RUST_IMAGE"]).groups()

        self.assertGreaterEqual(tuple(map(int, image)), tuple(map(int, least)))


class TheComposition(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.services = composed()["services"]

    def test_it_names_what_is_promised(self):
        self.assertEqual(set(self.services), {"postgres", "handover-1", "handover-2", "proxy", "demo"})
        self.assertEqual(self.services["demo"]["profiles"], ["demo"])
        self.assertEqual(self.services["demo"]["build"]["args"]["FEATURES"], "sandbox")
        self.assertNotIn("FEATURES", self.services["handover-1"]["build"]["args"])

    def test_the_instances_are_identical(self):
        self.assertEqual(self.services["handover-1"], self.services["handover-2"])

    def test_every_service_is_hardened_and_bounded(self):
        for name, service in self.services.items():
            with self.subTest(name):
                self.assertTrue(service["read_only"])
                self.assertEqual(service["cap_drop"], ["ALL"])
                self.assertNotIn("cap_add", service)
                self.assertFalse(service.get("privileged", False))
                self.assertIn("no-new-privileges:true", service["security_opt"])
                self.assertNotIn(service.get("user", "by its image"), ("root", "0", "0:0"))
                self.assertRegex(service["image"], r":[\w.-]+$")
                self.assertFalse(service["image"].endswith(":latest"))
                self.assertEqual(service["restart"], "no" if name == "demo" else "unless-stopped")
                limits = service["deploy"]["resources"]["limits"]
                self.assertTrue(limits["memory"] and limits["cpus"] and limits["pids"])

    def test_secrets_are_files_and_nothing_else_tells_them(self):
        whole = composed()
        for name, secret in whole["secrets"].items():
            self.assertIn("file", secret, name)
        for name, service in self.services.items():
            for variable, value in service.get("environment", {}).items():
                if re.search(r"PASSWORD|SECRET|TOKEN", variable):
                    self.assertTrue(variable.endswith("_FILE") and value.startswith("/run/secrets/"), f"{name}: {variable}")
                self.assertNotRegex(value, r"://[^@/]*:[^@/]*@", f"{name}: {variable} has a password in it")

    def test_the_proxy_alone_has_ports_and_the_program_trusts_it_alone(self):
        with_ports = [name for name, service in self.services.items() if service.get("ports")]
        address = self.services["proxy"]["networks"]["front"]["ipv4_address"]
        shared = set(self.services["proxy"]["networks"]) & set(self.services["handover-1"]["networks"])

        self.assertEqual(with_ports, ["proxy"])
        self.assertEqual(shared, {"front"}, "by another network the proxy would come from another address")
        self.assertIn(f'trusted_proxies = ["{address}"]', (ROOT / "deploy/compose/handover.toml").read_text())
        self.assertEqual([name for name, service in self.services.items() if "behind" in (service.get("networks") or {})],
                         ["handover-1", "handover-2", "postgres"])

    def test_a_mistake_is_found(self):
        with tempfile.TemporaryDirectory() as folder:
            wrong = (ROOT / "docker-compose.yml").read_text().replace("read_only: true", "readonly: true", 1)
            Path(folder, "docker-compose.yml").write_text(wrong)

            with self.assertRaisesRegex(AssertionError, "readonly"):
                run(COMPOSE, "--profile", "*", "config", "--quiet", cwd=folder)


class TheManifests(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.objects = manifests()
        cls.pod = cls.objects["Deployment", "handover"]["spec"]["template"]
        cls.container = cls.pod["spec"]["containers"][0]

    def test_they_fit_the_schemas(self):
        files = sorted((ROOT / "deploy/kubernetes").glob("*.yaml"))
        self.assertGreater(len(files), 8)

        for version in KUBERNETES:
            run("kubernetes-validate", "--strict", "--kubernetes-version", version, *files)

    def test_a_mistake_is_found(self):
        with tempfile.TemporaryDirectory() as folder:
            text = (ROOT / "deploy/kubernetes/deployment.yaml").read_text()
            Path(folder, "wrong.yaml").write_text(replaced(text, {"readOnlyRootFilesystem:": "readonlyRootFilesystem:"}))

            with self.assertRaises(AssertionError):
                run("kubernetes-validate", "--strict", Path(folder, "wrong.yaml"))

    def test_what_selects_finds_the_pods(self):
        labels = self.pod["metadata"]["labels"].items()
        selectors = [self.objects["Deployment", "handover"]["spec"]["selector"]["matchLabels"],
                     self.objects["PodDisruptionBudget", "handover"]["spec"]["selector"]["matchLabels"],
                     self.objects["NetworkPolicy", "handover"]["spec"]["podSelector"]["matchLabels"]]
        selectors += [one["spec"]["selector"] for (kind, _), one in self.objects.items() if kind == "Service"]

        self.assertEqual(len(selectors), 5)
        for selector in selectors:
            self.assertLessEqual(selector.items(), labels)

    def test_ports_and_services_go_by_names_that_there_are(self):
        ports = {port["name"]: port["containerPort"] for port in self.container["ports"]}
        probes = [self.container[f"{which}Probe"]["httpGet"] for which in ("startup", "readiness", "liveness")]
        services = {name: one for (kind, name), one in self.objects.items() if kind == "Service"}

        self.assertEqual(ports, {"api": 8080, "intake": 8081})
        for probe in probes:
            self.assertIn(probe["port"], ports)
            self.assertIn(probe["path"], ("/health/live", "/health/ready"))
        for service in services.values():
            self.assertIn(service["spec"]["ports"][0]["targetPort"], ports)
        for (kind, _), ingress in self.objects.items():
            if kind == "Ingress":
                for rule in ingress["spec"]["rules"]:
                    backend = rule["http"]["paths"][0]["backend"]["service"]
                    self.assertEqual(backend["port"]["name"], services[backend["name"]]["spec"]["ports"][0]["name"])

    def test_the_pod_may_do_nothing_it_need_not(self):
        pod, container = self.pod["spec"]["securityContext"], self.container["securityContext"]

        self.assertTrue(pod["runAsNonRoot"] and container["readOnlyRootFilesystem"])
        self.assertEqual(pod["seccompProfile"]["type"], "RuntimeDefault")
        self.assertEqual((container["allowPrivilegeEscalation"], container["capabilities"]), (False, {"drop": ["ALL"]}))
        self.assertFalse(self.pod["spec"]["automountServiceAccountToken"])
        self.assertEqual(self.objects["Deployment", "handover"]["spec"]["replicas"], 2)

    def test_every_file_that_is_named_is_mounted_and_in_the_secret(self):
        mounts = {mount["mountPath"]: mount["name"] for mount in self.container["volumeMounts"]}
        text = self.objects["ConfigMap", "handover"]["data"]["handover.toml"]
        text += " ".join(variable["value"] for variable in self.container["env"])
        named = set(re.findall(r"/var/run/secrets/handover/([\w-]+)/([\w.-]+)", text))
        secret = self.objects["Secret", "handover"]["stringData"]
        volumes = {volume["name"]: volume for volume in self.pod["spec"]["volumes"]}
        token = volumes["entra"]["projected"]["sources"][0]["serviceAccountToken"]

        self.assertEqual({name for folder, name in named if folder == "files"}, set(secret))
        self.assertEqual({name for folder, name in named if folder == "entra"}, {token["path"]})
        self.assertEqual(token["audience"], "api://AzureADTokenExchange")
        for folder, _ in named:
            self.assertEqual(mounts[f"/var/run/secrets/handover/{folder}"], folder)


class TheUnit(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.file = Path(folder.name, "handover.service")
        self.text = (ROOT / "deploy/systemd/handover.service").read_text()
        self.file.write_text(replaced(self.text, {"ExecStart=/usr/bin/handover": f"ExecStart={HANDOVER}"}))

    def test_systemd_takes_it(self):
        self.assertEqual(run("systemd-analyze", "verify", "--man=no", self.file), "")

    def test_it_is_hardened(self):
        run("systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE}", self.file)

    def test_a_weaker_one_is_found(self):
        self.file.write_text(replaced(self.text, {"ProtectSystem=strict\n": "", "CapabilityBoundingSet=\n": ""}))

        with self.assertRaises(AssertionError):
            run("systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE}", self.file)

    def test_nothing_of_it_is_dumped(self):
        self.assertEqual(unit()["LimitCORE"], ["0"])


class Configurations(unittest.TestCase):
    """Each configuration that is shipped is one that the program takes, with files where its own would be."""

    def check(self, text, secrets=(), environment=()):
        with tempfile.TemporaryDirectory() as folder:
            for path, value in secrets:
                here = Path(folder, path.removeprefix("/").replace("/", "_"))
                here.write_text(value)
                text = replaced(text, {path: str(here)})
            file = Path(folder, "handover.toml")
            file.write_text(text)
            clean = {name: value for name, value in os.environ.items() if not name.startswith("HANDOVER_")}
            return run(HANDOVER, "config", "check", "--config", file, env={**clean, **dict(environment)})

    def test_of_the_image(self):
        self.assertIn("good; shadow mode", self.check((ROOT / "deploy/container/handover.toml").read_text()))

    def test_of_the_unit(self):
        text = (ROOT / "deploy/systemd/handover.toml").read_text()
        given, _ = unit()["LoadCredential"][0].split(":")
        webhook = f"/run/credentials/handover.service/{given}_uem-webhook"

        self.assertIn("good; shadow mode, 1 source(s)", self.check(text, [(webhook, "hush")]))

    def test_of_the_composition(self):
        text = (ROOT / "deploy/compose/handover.toml").read_text()

        self.assertIn("good; shadow mode, 1 source(s)", self.check(text, [("/run/secrets/uem_webhook", "hush")]))

    def test_of_the_composition_with_entra(self):
        text = re.sub(r"(?m)^#(\[|\w)", r"\1", (ROOT / "deploy/compose/handover.toml").read_text())
        secrets = [("/run/secrets/uem_webhook", "hush"), ("/run/secrets/entra", "hush")]

        self.assertIn("good; live", self.check(text, secrets))

    def test_of_the_cluster(self):
        text = manifests()["ConfigMap", "handover"]["data"]["handover.toml"]
        place = "/var/run/secrets/handover"
        secrets = [(f"{place}/files/uem-webhook", "hush"), (f"{place}/entra/token", "e30.e30.c2ln")]

        self.assertIn("good; shadow mode, 1 source(s)", self.check(text, secrets))

    def test_a_mistake_is_found(self):
        with self.assertRaisesRegex(AssertionError, "did you mean trusted_proxies"):
            self.check('[server]\ntrusted_proxy = ["10.0.0.1"]')


if __name__ == "__main__":
    unittest.main()
