"""What the files of an installation say is carried out here: each step, each command, each health check.

There is no container engine. The image's steps run in folders, its program in a root file system of its own that cannot be
written to; the composition's services run as processes on loopback. A command is taken from its file as it stands there; what is
put in its place is addresses, ports and folders.
"""

import base64
import concurrent.futures
import http.client
import json
import os
import pwd
import re
import shlex
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from pathlib import Path

from files import HANDOVER, ROOT, Builder, composed, dockerfile, image, replaced, run, unit

LONG = "HANDOVER_CHECK_LONG" in os.environ
# How long anything may take to start.
PATIENCE = 60
# How long posts may be refused when an instance dies. The proxy asks every second and takes out after two bad answers.
REFUSED_AT_MOST = 3.0
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith("HANDOVER_")}


def until(what, question):
    """Asks until it is so."""
    end = time.monotonic() + PATIENCE
    while not question():
        if time.monotonic() > end:
            raise AssertionError(f"{what} took longer than {PATIENCE} s")
        time.sleep(0.1)


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def good(command, **more):
    return subprocess.run([str(word) for word in command], capture_output=True, **more).returncode == 0


def event(device, user, second):
    """What the UEM posts when somebody takes a device."""
    return json.dumps({
        "EventId": 9001, "EventType": "Check Out", "DeviceId": 41000 + device, "DeviceFriendlyName": f"iPad {device}",
        "EnrollmentEmailAddress": "", "EnrollmentUserName": user, "EventTime": f"2026-03-02T05:{second // 60 % 60:02}:{second % 60:02}.{device % 1000:03}Z",
        "EnrollmentStatus": "Enrolled", "SerialNumber": f"DMPXK{device:05}", "Platform": "Apple",
    })


class Folder(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = Path(tempfile.mkdtemp(prefix="handover-installation."))
        cls.folder.chmod(0o755)
        cls.addClassCleanup(shutil.rmtree, cls.folder, ignore_errors=True)


STAND_IN = """#!/usr/bin/env bash
# Does what cargo would have done by the end, with the program that is already built.
set -euo pipefail
case "$*" in
    "install --locked --quiet --root "*)
        mkdir -p "$5"; echo "\\"${8%@*} ${8#*@} (stand-in)\\"" >> "$5/.crates.toml" ;;
    "auditable build --release --locked "*)
        [[ -e Cargo.toml && -e Cargo.lock && -e src/lib.rs && -e src/main.rs && -e benches/promises.rs ]]
        mkdir -p "$CARGO_TARGET_DIR/release"
        cp "$HANDOVER_STAND_IN" "$CARGO_TARGET_DIR/release/handover" ;;
    "clean --release --package handover") rm "$CARGO_TARGET_DIR/release/handover" ;;
    "cyclonedx --format json --spec-version 1.5 --describe binaries --no-default-features")
        echo '{"bomFormat": "CycloneDX", "components": []}' > handover_bin.cdx.json ;;
    *) echo "nobody taught the stand-in: cargo $*" >&2; exit 1 ;;
esac
"""


class TheImage(Folder):
    """The Dockerfile's steps, then the image's program as the image starts it."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        _, (first, cls.last) = dockerfile()
        cargo = None
        if not LONG:
            cargo = cls.folder / "bin"
            cargo.mkdir()
            (cargo / "cargo").write_text(STAND_IN.replace("$HANDOVER_STAND_IN", str(HANDOVER)))
            (cargo / "cargo").chmod(0o755)
        cls.built = Builder(first, cls.folder / "builder", cargo)
        cls.built.build()
        cls.image = cls.folder / "image"
        image(cls.last, cls.built, cls.image)

    def test_every_step_of_the_builder_was_carried_out(self):
        self.assertEqual(self.built.ran, len(self.built.stage.all("RUN")))
        self.assertGreaterEqual(self.built.ran, 3)
        self.assertTrue(os.access(self.image / "usr/bin/handover", os.X_OK))
        run("sha256sum", "--check", "SHA256SUMS", cwd=self.built.folder / "build/target/released")

    def test_the_builder_has_every_file_that_the_sources_take_in(self):
        build = self.built.folder / "build"
        # In long, cargo itself has seen to it.
        run("cargo", "metadata", "--locked", "--offline", "--no-deps", "--format-version", "1", cwd=build)
        taken = [(file, path) for file in build.glob("src/**/*.rs")
                 for path in re.findall(r'include_(?:str|bytes)!\(\s*"([^"]+)"', file.read_text())]

        self.assertGreater(len(taken), 2)
        for file, path in taken:
            self.assertTrue((file.parent / path).exists(), f"{file} takes in {path}, which .dockerignore or the Dockerfile leaves out")

    def test_it_serves_as_nobody_on_a_file_system_that_cannot_be_written(self):
        user, group = self.last.last("USER").split(":")
        volume = json.loads(self.last.last("VOLUME"))[0]
        health = json.loads(self.last.last("HEALTHCHECK").split(" CMD ")[1])
        command = json.loads(self.last.last("ENTRYPOINT")) + json.loads(self.last.last("CMD"))
        as_user = (f"setpriv --reuid {user} --regid {group} --clear-groups --no-new-privs --bounding-set=-all --inh-caps=-all "
                   f"env -i -C {self.last.last('WORKDIR')}")
        script = f"""
            set -euo pipefail
            R={shlex.quote(str(self.folder / "root"))}
            mkdir "$R"; mount -t tmpfs -o size=1g,mode=755 tmpfs "$R"
            mkdir "$R/image" "$R/root"
            cp -a {shlex.quote(str(self.image))}/. "$R/image/"
            mount -t tmpfs -o mode=755 tmpfs "$R/root"
            mkdir -p "$R"/root/{{usr,etc,proc,dev,tmp}} "$R/root{volume}"
            cp -a "$R/image/etc/." "$R/root/etc/"
            for name in lib lib64 bin; do [[ ! -e /$name ]] || ln -s "usr/$name" "$R/root/$name"; done
            # The base image's libraries are this machine's here.
            mount -t overlay overlay -o "lowerdir=$R/image/usr:/usr" "$R/root/usr"
            mount -t proc proc "$R/root/proc"; mount --bind /dev "$R/root/dev"
            mount -t tmpfs -o size=64m,mode=700,uid={user},gid={group} tmpfs "$R/root{volume}"
            mount -o remount,ro "$R/root"
            ip link set lo up
            inside() {{ chroot "$R/root" {as_user} "$@"; }}
            if inside touch /etc/anything 2> /dev/null; then echo "it can be written to"; exit 1; fi
            if inside {shlex.join(health)} 2> "$R/before"; then echo "healthy before it runs"; exit 1; fi
            ulimit -c 0
            chroot "$R/root" {as_user} {shlex.join(command)} > "$R/log" 2>&1 &
            for _ in $(seq 150); do
                if inside {shlex.join(health)} > "$R/health" 2>&1; then healthy=yes; break; fi
                kill -0 $! || {{ cat "$R/log"; exit 1; }}
                sleep 0.2
            done
            echo "healthy=${{healthy:-no}}"; cat "$R/health"
            grep -E '^(Uid|CapEff|CapBnd|NoNewPrivs|Seccomp):' /proc/$!/status
            ls "$R/root{volume}"
            kill -TERM $!; wait $! && echo "ended=0"
            echo "started=$(grep -c 'Handover answers' "$R/log")"
        """

        said = run("unshare", "--mount", "--net", "--pid", "--fork", "--mount-proc", "--propagation", "private", "bash", "-c", script)

        self.assertIn("healthy=yes", said)
        self.assertRegex(said, rf"Uid:\s+{user}\s+{user}\s+{user}\s+{user}\n")
        self.assertRegex(said, r"CapEff:\s+0+\n")
        self.assertRegex(said, r"CapBnd:\s+0+\n")
        self.assertRegex(said, r"NoNewPrivs:\s+1\n")
        self.assertIn("handover.db", said)
        self.assertIn("ended=0", said)
        self.assertIn("started=1", said)

    @unittest.skipUnless(LONG, "takes two release builds")
    def test_it_has_no_sandbox_and_comes_out_the_same_twice(self):
        program = self.image / "usr/bin/handover"
        for fake in ("demo", "sandbox"):
            self.assertEqual(subprocess.run([program, fake], capture_output=True).returncode, 2)
        run("scripts/release", "check", cwd=self.built.folder / "build", env={**CLEAN, **self.built.variables})
        place = self.built.folder
        place.rename(self.folder / "first")
        again = Builder(self.built.stage, place, None)
        again.build()

        sums = [(one / "build/target/released/SHA256SUMS").read_text() for one in (self.folder / "first", place)]
        self.assertEqual(*sums)


class TheUnitRunning(Folder):
    """What the program asks of the system is what the unit lets it."""

    def allowed(self):
        groups = {}
        for line in run("systemd-analyze", "syscall-filter").splitlines():
            if line.startswith("@"):
                members = groups.setdefault(line.strip(), [])
            elif line.startswith("    ") and not line.strip().startswith("#"):
                members.append(line.strip())

        def expand(name):
            return {one for member in groups[name] for one in (expand(member) if member.startswith("@") else {member})}

        calls = set()
        for line in unit()["SystemCallFilter"]:
            names = set().union(*(expand(name) for name in line.removeprefix("~").split()))
            calls = calls - names if line.startswith("~") else calls | names
        return calls

    def test_every_system_call_is_in_the_filter_and_no_memory_is_written_and_run(self):
        # As nobody in particular: SQLite asks for more when root runs it.
        nobody = {"user": 65532, "group": 65532, "extra_groups": []}
        shutil.copy2(HANDOVER, self.folder / "handover")
        os.chown(self.folder, 65532, 65532)
        webhook = self.folder / "webhook"
        webhook.write_text("hush")
        api, intake = free_port(), free_port()
        text = replaced((ROOT / "deploy/systemd/handover.toml").read_text(), {
            "/run/credentials/handover.service/secret_uem-webhook": str(webhook), "127.0.0.1:8080": f"127.0.0.1:{api}",
            "127.0.0.1:8081": f"127.0.0.1:{intake}", "/var/lib/handover/": f"{self.folder}/"})
        (self.folder / "handover.toml").write_text(text)
        command = shlex.split(unit()["ExecStart"][0])
        command = [self.folder / "handover"] + [word.replace("/etc/handover", str(self.folder)) for word in command[1:]]
        trace = self.folder / "trace"

        service = subprocess.Popen(["strace", "-f", "-qq", "-o", trace, *command], env=CLEAN, stderr=subprocess.DEVNULL, **nobody)
        try:
            ready = [HANDOVER, "health", "--ready", "--config", self.folder / "handover.toml"]
            until("the service", lambda: good(ready, env=CLEAN))
            connection = http.client.HTTPConnection("127.0.0.1", intake)
            login = {"authorization": "Basic aGFuZG92ZXI6aHVzaA==", "content-type": "application/json"}
            connection.request("POST", "/intake/uem", event(1, "amina", 1), login)
            self.assertEqual(connection.getresponse().status, 200)
            connection.close()
        finally:
            children = Path(f"/proc/{service.pid}/task/{service.pid}/children").read_text().split()
            os.kill(int(children[0]), signal.SIGTERM)
            service.wait(30)
        lines = trace.read_text().splitlines()
        used = {found.group(1) for line in lines if (found := re.match(r"\d+ +(\w+)\(", line))}
        families = {found.group(1) for line in lines if (found := re.search(r" socket\((AF_\w+)", line))}

        self.assertGreater(len(used), 30, "the trace is not read right")
        # The first one is how strace started it.
        self.assertEqual(used - self.allowed() - {"execve"}, set())
        self.assertEqual(families - set(unit()["RestrictAddressFamilies"][0].split()), set())
        self.assertEqual([line for line in lines if "PROT_WRITE|PROT_EXEC" in line], [])


def postgres_programs():
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name), reverse=True)
    on_path = shutil.which("initdb")
    return next((folder for folder in [*found, *([Path(on_path).parent] if on_path else [])] if (folder / "initdb").exists()), None)


class Process:
    """A service that runs, as a process of its own."""

    def __init__(self, command, log, **more):
        self.command, self.log, self.more = [str(word) for word in command], log, more
        self.start()

    def start(self):
        self.process = subprocess.Popen(self.command, stdout=self.log.open("ab"), stderr=subprocess.STDOUT, **self.more)

    def stop(self, how=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(how)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
        return self.process.wait()


@unittest.skipIf(os.environ.get("HANDOVER_CHECK_POSTGRES") == "no", "PostgreSQL was left out")
class TheComposition(Folder):
    """PostgreSQL, two instances and the proxy, as docker-compose.yml starts them; and what happens when one of them dies."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.services = composed()["services"]
        compose = cls.folder / "deploy/compose"
        compose.mkdir(parents=True)
        shutil.copy2(ROOT / "deploy/compose/prepare", compose)
        cls.prepared = run(compose / "prepare", "handover.contoso.example")
        cls.secrets = compose / "secrets"
        cls.ports = {name: free_port() for name in
                     ("postgres", "api-1", "intake-1", "api-2", "intake-2", "proxy-intake", "proxy-api")}
        cls.start_postgres()
        cls.instances = [cls.start_instance(number) for number in (1, 2)]
        for number in (1, 2):
            until(f"instance {number}", lambda number=number: cls.healthy(number))
        cls.start_proxy()
        cls.token = cls.handover(1, "token", "create", "--role", "admin").strip()

    @classmethod
    def started(cls, command, name, **more):
        process = Process(command, cls.folder / f"{name}.log", **more)
        cls.addClassCleanup(process.stop)
        return process

    @classmethod
    def start_postgres(cls):
        service, bin = cls.services["postgres"], postgres_programs()
        if bin is None:
            raise AssertionError("there is no PostgreSQL here; scripts/test installs it")
        user = "postgres" if any(one.pw_name == "postgres" for one in pwd.getpwall()) else "nobody"
        as_server = {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": [], "cwd": "/"}
        # The folder of secrets is closed to other users; the engine would mount the file.
        password = cls.folder / "postgres_password"
        shutil.copy2(cls.secrets / "postgres_password", password)
        data = cls.folder / "data"
        data.mkdir(mode=0o700)
        shutil.chown(data, user)
        settings = service["environment"]
        run(bin / "initdb", "-D", data, "-U", settings["POSTGRES_USER"], f"--pwfile={password}",
            *settings["POSTGRES_INITDB_ARGS"].split(), **as_server)
        command = service["command"]
        cls.started([bin / command[0], "-D", data, "-p", cls.ports["postgres"], "-c", "listen_addresses=127.0.0.1",
                     "-c", "unix_socket_directories=", *command[1:]], "postgres", **as_server)
        health = [bin / service["healthcheck"]["test"][1], *service["healthcheck"]["test"][2:], f"--port={cls.ports['postgres']}"]
        until("PostgreSQL", lambda: good(health))
        cls.sums = run(bin / "pg_controldata", data, **as_server)
        url = f"postgres://handover:{password.read_text().strip()}@127.0.0.1:{cls.ports['postgres']}"
        run(bin / "psql", f"{url}/postgres", "-c", f"CREATE DATABASE {settings['POSTGRES_DB']}")

    @classmethod
    def environment(cls, number):
        """The service's own variables, and over them what a network of its own would have given it."""
        service = cls.services[f"handover-{number}"]
        given = replaced(json.dumps(service["environment"]), {
            "@postgres/": f"@127.0.0.1:{cls.ports['postgres']}/", "/run/secrets": str(cls.secrets)})
        return {**CLEAN, **json.loads(given),
                "HANDOVER_SERVER__LISTEN": f"127.0.0.1:{cls.ports[f'api-{number}']}",
                "HANDOVER_INTAKE__LISTEN": f"127.0.0.1:{cls.ports[f'intake-{number}']}",
                "HANDOVER_SERVER__TRUSTED_PROXIES": "127.0.0.1",
                "HANDOVER_SOURCE__UEM__PASSWORDS_FILE": str(cls.secrets / "uem_webhook")}

    @classmethod
    def command(cls, number):
        mounts = {mount["target"]: mount["source"] for mount in cls.services[f"handover-{number}"]["volumes"]}
        return [mounts.get(word, word) for word in cls.services[f"handover-{number}"]["command"]]

    @classmethod
    def start_instance(cls, number):
        return cls.started([HANDOVER, *cls.command(number)], f"handover-{number}", env=cls.environment(number))

    @classmethod
    def handover(cls, number, *words):
        return run(HANDOVER, *words, *cls.command(number)[1:], env=cls.environment(number))

    @classmethod
    def healthy(cls, number):
        """As the image's HEALTHCHECK asks."""
        return good([HANDOVER, "health", "--ready", *cls.command(number)[1:]], env=cls.environment(number))

    @classmethod
    def start_proxy(cls):
        service = cls.services["proxy"]
        mount = service["volumes"][0]
        swaps = {f"handover-{number}:{port}": f"127.0.0.1:{cls.ports[f'{name}-{number}']}"
                 for number in (1, 2) for name, port in (("intake", 8081), ("api", 8080))}
        swaps |= {"bind :8443": f"bind 127.0.0.1:{cls.ports['proxy-intake']}", "bind :9443": f"bind 127.0.0.1:{cls.ports['proxy-api']}",
                  "/run/secrets/certificate": str(cls.secrets / "certificate")}
        file = cls.folder / "haproxy.cfg"
        file.write_text(replaced(Path(mount["source"]).read_text(), swaps))
        command = [str(file) if word == mount["target"] else word for word in service["command"]]
        run(command[0], "-c", "-f", file)
        cls.started(command, "proxy")
        health = [replaced(word, {"9443": str(cls.ports["proxy-api"])}) if "9443" in word else word
                  for word in service["healthcheck"]["test"][1:]]
        until("the proxy", lambda: good(health))

    def ask(self, door, method, path, body=None, headers=None, timeout=20):
        """One request over a connection of its own, as the UEM makes them."""
        context = ssl.create_default_context(cafile=self.secrets / "certificate")
        connection = http.client.HTTPSConnection("localhost", self.ports[f"proxy-{door}"], context=context, timeout=timeout)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def post(self, device, user, second):
        secret = (self.secrets / "uem_webhook").read_text().strip()
        login = "Basic " + base64.b64encode(f"handover:{secret}".encode()).decode()
        headers = {"authorization": login, "content-type": "application/json"}
        return self.ask("intake", "POST", "/intake/uem", event(device, user, second), headers)

    def devices(self):
        status, text = self.ask("api", "GET", "/api/v1/status", headers={"authorization": f"Bearer {self.token}"})
        self.assertEqual(status, 200, text)
        return json.loads(text)

    def test_secrets_are_made_once_and_the_pages_have_checksums(self):
        self.assertEqual(self.prepared.count("made secrets/"), 3)
        self.assertEqual(run(self.folder / "deploy/compose/prepare"), "")
        self.assertEqual(oct(self.secrets.stat().st_mode & 0o777), "0o700")
        self.assertRegex(self.sums, r"Data page checksum version: +[1-9]")

    def test_an_event_goes_in_by_one_door_and_is_seen_by_the_other(self):
        status, text = self.post(90001, "amina", 1)
        again, _ = self.post(90001, "amina", 1)
        seen, device = self.ask("api", "GET", "/api/v1/devices/DMPXK90001", headers={"authorization": f"Bearer {self.token}"})

        self.assertEqual((status, json.loads(text)["status"], again), (200, "recorded", 200))
        self.assertEqual((seen, json.loads(device)["serial"]), (200, "DMPXK90001"))

    def test_the_intakes_door_leads_to_nothing_else(self):
        for path in ("/api/v1/status", "/metrics", "/openapi.json", "/health/ready", "/"):
            self.assertEqual(self.ask("intake", "GET", path)[0], 404, path)
        self.assertEqual(self.ask("intake", "GET", "/intake/uem")[0], 401)
        self.assertEqual(self.ask("api", "GET", "/api/v1/status")[0], 401)

    def test_an_instance_that_is_killed_costs_no_event(self):
        tries, lock, numbers, stop = [], threading.Lock(), iter(range(10**6)), threading.Event()

        def sender():
            while not stop.is_set():
                with lock:
                    number = next(numbers)
                began = time.monotonic()
                try:
                    status, text = self.post(number % 40, f"user{number}", number)
                    said = json.loads(text)["status"] if status == 200 else text
                except OSError as error:
                    status, said = 0, str(error)
                with lock:
                    tries.append((began, time.monotonic(), number, status, said))
                time.sleep(0.02)

        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            senders = [pool.submit(sender) for _ in range(8)]
            time.sleep(3)
            killed = time.monotonic()
            self.instances[0].stop(signal.SIGKILL)
            time.sleep(6)
            self.instances[0].start()
            until("the instance", lambda: self.healthy(1))
            time.sleep(3)
            stop.set()
            for one in senders:
                one.result()

        taken = [one for one in tries if one[3] == 200]
        refused = sorted(one for one in tries if one[3] != 200)
        after = [one for one in taken if one[0] > killed]
        gap = max((one[1] for one in refused), default=killed) - killed
        slowest = max(one[1] - one[0] for one in tries)
        twice = sum(one[4] == "duplicate" for one in taken)
        known = json.loads(self.handover(2, "replay", "--check", "--json"))
        print(f"{len(tries)} posts, {len(taken)} taken, {twice} of them sent to both, {len(refused)} refused; the last refusal "
              f"{max(gap, 0):.2f} s after the kill, the slowest answer {slowest:.2f} s; {known['events']} events kept",
              file=sys.__stdout__)
        self.assertGreater(len(after), 30, "the other instance goes on")
        self.assertLess(gap, REFUSED_AT_MOST, refused)
        self.assertGreaterEqual(known["events"], len({one[2] for one in taken}))
        self.assertEqual(known["differ"], 0)


class TheDemo(Folder):
    @unittest.skipUnless(LONG, "scripts/test tells the story anyway")
    def test_it_tells_its_story_in_a_container_that_reaches_nobody(self):
        service = composed()["services"]["demo"]
        self.assertEqual(service["network_mode"], "none")

        said = run("unshare", "--net", "bash", "-c", f"ip link set lo up && exec {shlex.join([str(HANDOVER), *service['command']])}")

        self.assertIn("AADSTS50173", said)


if __name__ == "__main__":
    unittest.main()
