"""A program `docker` that answers as the real one did, keeps what is asked, and runs nothing.

Images and containers are lines in a file. `config` is answered by the real Compose, which needs
no engine; the other answers have the form of those of Docker's client 28.2 and Compose 5.6, which
tests/contract/test_container_engines.py asks for real.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_PROGRAM = '''\
import hashlib, json, os, subprocess, sys, time
from pathlib import Path

place = Path({place!r})
arguments = sys.argv[1:]
with (place / "calls").open("a") as file:
    file.write(json.dumps(arguments) + "\\n")
state = json.loads((place / "state.json").read_text())


def save():
    new = place / f"state.{{os.getpid()}}"
    new.write_text(json.dumps(state))
    new.replace(place / "state.json")


def fail(text):
    sys.stderr.write(text + "\\n")
    sys.exit(1)


def identity(text):
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def resolved(options):
    command = [{compose!r}, *options, "config", "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        fail(done.stderr)
    return json.loads(done.stdout)


def image_of(content, service):
    return content["services"][service].get("image") or content["name"] + "-" + service


def row(service, image):
    """What a container is in the answer of `ps --format json`."""
    named = state["images"].get(image, "")
    broken = named in state["broken"]
    health = "unhealthy" if broken else "healthy"
    if service in state.get("unwatched", ()):
        health = ""
    published = [{{"URL": p.get("host_ip", ""), "TargetPort": p["target"],
                  "PublishedPort": int(p["published"]), "Protocol": "tcp"}}
                 for p in state["ports"].get(service, ()) if p.get("published")]
    return {{"ID": "35518bc495f3", "Name": "p-" + service + "-1", "Names": "p-" + service + "-1",
            "Service": service, "Image": image, "Project": state["project"], "ExitCode": 0,
            "State": "running", "Status": "Up 3 seconds",
            "Health": health, "Publishers": published}}


verb = arguments[0]
if verb == "info":
    print(json.dumps({{"ServerVersion": "28.2.2", "DockerRootDir": str(place),
                      "Runtimes": {{"runc": {{}}}}}}))
elif verb == "image":
    name = arguments[2]
    found = state["images"].get(name) or (name if name in state["images"].values() else None)
    if found is None:
        print("[]")
        fail("Error response from daemon: No such image: " + name)
    print(json.dumps([{{"Id": found, "RepoTags": [name], "RepoDigests": [],
                       "Config": {{"User": "10001:10001"}}}}]))
elif verb == "inspect":
    state["looks"] = state.get("looks", 0) + 1
    save()
    for name in arguments[5:]:
        print(state["looks"] if name.split("-")[1] in state.get("restarting", ()) else 0)
elif verb == "tag":
    state["images"][arguments[2]] = state["images"].get(arguments[1], arguments[1])
    save()
elif verb == "rmi":
    if state["images"].pop(arguments[1], None) is None:
        fail("Error response from daemon: No such image: " + arguments[1])
    save()
elif verb == "compose":
    rest = arguments[1:]
    options = []
    while rest and rest[0].startswith("--"):
        options += rest[:2]
        rest = rest[2:]
    verb, *flags = rest
    if verb == "version":
        print(state.get("compose", "5.6.1"))
    elif verb == "config":
        print(json.dumps(resolved(options)))
    elif verb in ("pull", "build"):
        if state.get("refused") == verb:
            fail("failed to solve: the registry does not answer")
        content = resolved(options)
        for service, parts in content["services"].items():
            built = "build" in parts
            if built != (verb == "build"):
                continue
            name = image_of(content, service)
            if not built and name in state.get("unknown", ()):
                fail("pull access denied for " + name + ", repository does not exist")
            code = (Path(parts["build"]["context"]) / "code").read_text() if built else ""
            state["images"][name] = identity(name + code)
        save()
    elif verb == "up":
        content = resolved(options)
        print(" Container starting", flush=True)
        if (place / "hang").exists():
            (place / "hanging").write_text(str(os.getpid()))
            while (place / "hang").exists():
                time.sleep(0.02)
        for service in content["services"]:
            name = image_of(content, service)
            if name not in state["images"]:
                fail("Error response from daemon: No such image: " + name)
        state["project"] = content["name"]
        state["running"] = {{s: image_of(content, s) for s in content["services"]}}
        state["ids"] = {{s: state["images"][i] for s, i in state["running"].items()}}
        state["mounted"] = {{
            v["target"]: Path(v["source"]).read_text()
            for parts in content["services"].values() for v in parts.get("volumes") or ()
            if v["type"] == "bind" and Path(v["source"]).is_file()
        }}
        state["environment"] = {{s: p.get("environment") for s, p in content["services"].items()}}
        state["ports"] = {{s: p.get("ports") or [] for s, p in content["services"].items()}}
        save()
    elif verb == "ps":
        for service, image in state["running"].items():
            print(json.dumps(row(service, image)))
    elif verb == "logs":
        print("gateway-1  | a line of the container")
    elif verb == "down":
        state["running"] = {{}}
        save()
    elif verb == "exec":
        if state.get("refused") == "exec":
            fail("OCI runtime exec failed: exec: aurum: not found")
        # as the container would run it
        command, variables = state["within"]
        os.execve(command[0], [*command, *flags[3:]], variables)
    else:
        fail("unknown docker command: compose " + verb)
else:
    fail("unknown command: " + verb)
'''


@dataclass(frozen=True)
class RecordedEngine:
    """The program and what it knows. `bin` belongs first on PATH."""

    folder: Path

    @classmethod
    def make(cls, folder: Path) -> "RecordedEngine":
        """Write the program into a new folder."""
        engine = cls(folder)
        engine.bin.mkdir(parents=True)
        engine.change(images={}, running={}, broken=[], ports={}, project="")
        compose = Path(sys.executable).parent / "docker-compose"
        program = engine.bin / "docker"
        text = _PROGRAM.format(place=str(folder), compose=str(compose))
        # the interpreter itself, which starts faster than what a PATH may lead to
        program.write_text(f"#!{Path(sys.executable).resolve()} -IS\n{text}")
        program.chmod(0o755)
        return engine

    @property
    def bin(self) -> Path:
        return self.folder / "bin"

    @property
    def state(self) -> dict[str, Any]:
        """Images by name, running services, and what they were started with."""
        state: dict[str, Any] = json.loads((self.folder / "state.json").read_text())
        return state

    def change(self, **changes: object) -> None:
        """Change what it knows.

        `broken` ids of images are unhealthy, a `refused` verb fails, `unknown` images are in no
        registry, `unwatched` services have no health check, and `restarting` ones are started again
        and again. `within` is a program and its variables, to which `exec` gives its words.
        """
        path = self.folder / "state.json"
        known = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps({**known, **changes}))

    def calls(self) -> list[list[str]]:
        """All calls so far."""
        lines = (self.folder / "calls").read_text().splitlines()
        return [json.loads(line) for line in lines]

    def verbs(self) -> list[str]:
        """Words of all calls that are no options: what changed something, mostly."""
        known = {"pull", "build", "tag", "rmi", "up", "down"}
        return [word for call in self.calls() for word in call if word in known]
