"""What an installation is made of, taken apart: the Dockerfile, docker-compose.yml, and what lies in deploy/."""

import json
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import compose
import yaml

ROOT = Path(__file__).resolve().parents[2]
HANDOVER = Path(os.environ["HANDOVER_BIN"]).resolve()
# The wrapper beside it loses the exit code.
COMPOSE = Path(compose.__file__).with_name("docker-compose")


def run(*command, **more):
    """Runs a program to its end, which must be good."""
    done = subprocess.run([str(word) for word in command], text=True, capture_output=True, timeout=5400, **more)
    if done.returncode != 0:
        raise AssertionError(f"{shlex.join(map(str, command))} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def replaced(text, swaps):
    """The text with one thing put in another's place; each must be there."""
    for old, new in swaps.items():
        assert old in text, f"{old} is not in what was to be changed:\n{text}"
        text = text.replace(old, new)
    return text


class Stage:
    """One stage of the Dockerfile."""

    def __init__(self, base, name):
        self.base, self.name, self.steps = base, name, []

    def all(self, instruction):
        return [rest for word, rest in self.steps if word == instruction]

    def last(self, instruction):
        return self.all(instruction)[-1]


def dockerfile():
    """The global arguments, and the stages."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.M)
    lines = [line.strip() for line in text.replace("\\\n", " ").splitlines() if line.strip()]
    arguments, stages = {}, []
    for line in lines:
        word, rest = line.split(maxsplit=1)
        if word == "FROM":
            parts = rest.split()
            stages.append(Stage(expand(parts[0], arguments), parts[2] if len(parts) > 2 else None))
        elif word == "ARG" and not stages:
            name, _, value = rest.partition("=")
            arguments[name] = value.strip('"')
        else:
            stages[-1].steps.append((word, rest))
    return arguments, stages


def expand(text, values):
    return re.sub(r"\$\{?(\w+)\}?", lambda found: values[found.group(1)], text)


def sent_to_the_builder(path):
    """Whether .dockerignore lets a path through. It forbids everything and then allows some."""
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*" and all(line.startswith("!") for line in lines[1:])
    return any(path == line[1:] or path.startswith(line[1:] + "/") for line in lines[1:])


class Builder:
    """Carries out the first stage as a builder would, in a folder instead of in an image."""

    def __init__(self, stage, folder, cargo=None):
        self.stage, self.folder, self.cargo = stage, folder, cargo
        self.where = folder
        self.variables = {}
        self.ran = 0

    def here(self, path):
        """A path of the image, in our folder."""
        return self.folder / path.removeprefix("/") if path.startswith("/") else self.where / path

    def build(self):
        for word, rest in self.stage.steps:
            {"WORKDIR": self.workdir, "ENV": self.env, "ARG": self.arg, "COPY": self.copy, "RUN": self.run}[word](rest)

    def workdir(self, rest):
        self.where = self.here(rest)
        self.where.mkdir(parents=True, exist_ok=True)

    def env(self, rest):
        name, value = rest.split("=", 1)
        self.variables[name] = str(self.here(value)) if value.startswith("/") else value

    def arg(self, rest):
        name, _, value = rest.partition("=")
        self.variables[name] = value.strip('"')

    def copy(self, rest):
        *sources, to = rest.split()
        for source in sources:
            assert sent_to_the_builder(source), f"{source} is kept out by .dockerignore"
            target = self.here(to) / Path(source).name if to.endswith("/") else self.here(to)
            target.parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, target, dirs_exist_ok=True)
            else:
                shutil.copy2(ROOT / source, target)

    def run(self, rest):
        path = os.environ["PATH"] if self.cargo is None else f"{self.cargo}:{os.environ['PATH']}"
        keep = {name: os.environ[name] for name in ("HOME", "CARGO_HOME", "RUSTUP_HOME") if name in os.environ}
        # Longest first, so that nothing is replaced twice.
        command = rest.replace("/build/", f"{self.folder}/build/")
        run("sh", "-euc", command, cwd=self.where, env={"PATH": path, **keep, **self.variables})
        self.ran += 1


def image(stage, built, folder):
    """Copies what the last stage takes over into a folder."""
    for rest in stage.all("COPY"):
        words = rest.split()
        options = [word for word in words if word.startswith("--")]
        *sources, to = [word for word in words if not word.startswith("--")]
        from_builder = any(option.startswith("--from=") for option in options)
        for source in sources:
            origin = built.here(source) if from_builder else ROOT / source
            assert from_builder or sent_to_the_builder(source), f"{source} is kept out by .dockerignore"
            target = folder / to.removeprefix("/")
            target = target / origin.name if to.endswith("/") else target
            target.parent.mkdir(parents=True, exist_ok=True)
            if origin.is_dir():
                shutil.copytree(origin, target, dirs_exist_ok=True)
            else:
                shutil.copy2(origin, target)


def composed():
    """docker-compose.yml as compose itself understands it, with every profile."""
    return json.loads(run(COMPOSE, "--profile", "*", "config", "--format", "json", cwd=ROOT))


def manifests():
    """Every Kubernetes object, by kind and name."""
    objects = {}
    for file in sorted((ROOT / "deploy/kubernetes").glob("*.yaml")):
        for one in yaml.safe_load_all(file.read_text()):
            objects[one["kind"], one["metadata"]["name"]] = one
    return objects


def unit():
    """The settings of the systemd unit, as lists: a name may come several times."""
    settings = {}
    for line in (ROOT / "deploy/systemd/handover.service").read_text().splitlines():
        if re.match(r"\w+=", line):
            name, value = line.split("=", 1)
            settings.setdefault(name, []).append(value)
    return settings
