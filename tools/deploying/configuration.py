"""A resolved Compose configuration, asked by what a deployment needs to know of it."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gateway.settings import PREFIX

_SECRETS: Final = Path("/run/secrets")
"""Where Compose mounts secrets, unless they name another place."""
_HTTPS_PORTS: Final = (443, 8443)
_NAME_AND_PORT: Final = re.compile(r"([a-zA-Z0-9_-]+):\d+")
"""No address, and no name of the internet."""


@dataclass(frozen=True, slots=True)
class Port:
    """A published port. host: the address it is bound to; empty: all."""

    service: str
    host: str
    number: int
    target: int


@dataclass(frozen=True, slots=True)
class Mount:
    """A folder or file of this machine in a container. user: what the service says, or empty."""

    service: str
    source: Path
    target: str
    read_only: bool
    user: str


@dataclass(frozen=True, slots=True)
class Configuration:
    """What `config --format json` of Compose answered."""

    content: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Name of the project."""
        return str(self.content["name"])

    @property
    def services(self) -> Mapping[str, Mapping[str, Any]]:
        """Services in use, by name."""
        found: Mapping[str, Mapping[str, Any]] = self.content.get("services") or {}
        return found

    def image_of(self, service: str) -> str:
        """Name of the image of a service; Compose names those that it builds by the project."""
        return str(self.services[service].get("image") or f"{self.name}-{service}")

    def builds(self) -> list[str]:
        """Services whose image is built here."""
        return [name for name, service in self.services.items() if service.get("build")]

    def ports(self) -> list[Port]:
        """All published ports; the first of a range."""
        return [
            Port(
                name,
                port.get("host_ip") or "",
                int(str(port["published"]).split("-")[0]),
                int(port["target"]),
            )
            for name, service in self.services.items()
            for port in service.get("ports") or ()
            if port.get("published") and port.get("protocol", "tcp") == "tcp"
        ]

    def mounts(self) -> list[Mount]:
        """All folders and files of this machine in containers, without secrets."""
        return [
            Mount(
                name,
                Path(volume["source"]),
                volume["target"],
                bool(volume.get("read_only")),
                str(service.get("user") or ""),
            )
            for name, service in self.services.items()
            for volume in service.get("volumes") or ()
            if volume["type"] == "bind"
        ]

    def secret_files(self) -> dict[str, Path]:
        """Files of secrets that services use, by the name of the secret."""
        used = {
            secret["source"]
            for service in self.services.values()
            for secret in service.get("secrets") or ()
        }
        declared = self.content.get("secrets") or {}
        return {
            name: Path(secret["file"])
            for name, secret in declared.items()
            if name in used and secret.get("file")
        }

    def secrets_of(self, service: str) -> dict[Path, Path]:
        """Files of this machine by where a service sees them."""
        files = self.secret_files()
        return {
            _SECRETS / (secret.get("target") or secret["source"]): files[secret["source"]]
            for secret in self.services[service].get("secrets") or ()
            if secret["source"] in files
        }

    def settings_of_services(self) -> Iterator[tuple[str, dict[str, str]]]:
        """Services that read Aurum's settings, and their variables as they get them."""
        for name, service in self.services.items():
            given = _plain(service.get("environment") or {})
            if any(variable.startswith(PREFIX) for variable in given):
                yield name, given

    def model_repository(self) -> Path | None:
        """Folder of this machine that services see as `AURUM_MODEL_REPOSITORY`."""
        for name, given in self.settings_of_services():
            inside = given.get(f"{PREFIX}MODEL_REPOSITORY")
            for mount in self.mounts():
                if mount.service == name and mount.target == inside:
                    return mount.source
        return None

    def scores(self) -> bool:
        """Whether the gateways compute scores."""
        return all(
            given.get(f"{PREFIX}SCORING", "on") != "off" for _, given in self.settings_of_services()
        )

    def key_service(self) -> str:
        """Name the service in which keys can be made; empty if callers are asked for none."""
        for name, given in self.settings_of_services():
            if name == "gateway" and given.get(f"{PREFIX}AUTHENTICATION") == "on":
                return name
        return ""

    def unknown_tritons(self) -> Iterator[tuple[str, str]]:
        """Services whose Triton is no other service, and its name: a profile may be missing."""
        networks = (self.content.get("networks") or {}).values()
        if any((network or {}).get("external") for network in networks):
            return
        names = set(self.services)
        for service in self.services.values():
            names |= {str(service.get(key) or "") for key in ("container_name", "hostname")}
            for network in (service.get("networks") or {}).values():
                names |= set((network or {}).get("aliases") or ())
        for service_name, given in self.settings_of_services():
            host = _NAME_AND_PORT.fullmatch(given.get(f"{PREFIX}TRITON_GRPC_URL", ""))
            extra = self.services[service_name].get("extra_hosts")
            if host and host[1] not in {*names, "localhost"} and not extra:
                yield service_name, host[1]

    def memory_limits_bytes(self) -> int:
        """Add up what all containers may take."""
        total = 0
        for service in self.services.values():
            deploy = service.get("deploy") or {}
            limits = (deploy.get("resources") or {}).get("limits") or {}
            limit = int(limits.get("memory") or service.get("mem_limit") or 0)
            total += limit * int(deploy.get("replicas") or service.get("scale") or 1)
        return total

    def wants_gpu(self) -> list[str]:
        """Services that reserve a GPU."""
        return [name for name, service in self.services.items() if _reserves_gpu(service)]

    def url(self) -> str | None:
        """Address of a published gateway on this machine, or else of nginx; None without both."""
        published = self.ports()
        for service in ("gateway", "nginx"):
            of_it = [port for port in published if port.service == service]
            for port in sorted(of_it, key=lambda each: each.target not in _HTTPS_PORTS):
                encrypted = port.target in _HTTPS_PORTS or self._has_certificate(service)
                scheme = "https" if encrypted else "http"
                host = port.host if port.host not in ("", "0.0.0.0", "::") else "127.0.0.1"  # noqa: S104 - compared
                return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port.number}"
        return None

    def _has_certificate(self, service: str) -> bool:
        given = self.services[service].get("environment") or {}
        return bool(given.get(f"{PREFIX}TLS_CERTIFICATE_FILE"))


def _plain(environment: Mapping[str, Any]) -> dict[str, str]:
    """Undo what Compose did so that its answer can be its input again."""
    return {
        name: str(value).replace("$$", "$")
        for name, value in environment.items()
        if value is not None
    }


def _reserves_gpu(service: Mapping[str, Any]) -> bool:
    resources = (service.get("deploy") or {}).get("resources") or {}
    devices = (resources.get("reservations") or {}).get("devices") or ()
    return bool(service.get("gpus")) or any(
        "gpu" in (device.get("capabilities") or ()) for device in devices
    )
