"""A release: images by id, models by digest, and a copy of the configuration that starts them."""

import json
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from tools.deploying.configuration import Configuration
from tools.deploying.engine import Engine, Project
from tools.deploying.errors import DeployError
from tools.deploying.models import ServedVersion

_RELEASE: Final = "release.json"
_COMPOSE: Final = "compose.json"
_SOURCES: Final = "configuration"
_MOUNTED: Final = "mounted"
_MOST_COPIED_BYTES: Final = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class ReleaseImage:
    """The image of a service. tag: its name of this release. digests: in registries, if any."""

    name: str
    tag: str
    id: str
    digests: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Release:
    """What one deployment put into service.

    project: name of the Compose project. folder: where relative paths in its files start.
    repository: folder of the models. scores: whether photos get scores. url: of the gateway.
    key_service: service in which keys are made; empty: the gateway asks nobody for one.
    """

    number: int
    at: str
    project: str
    folder: str
    images: Mapping[str, ReleaseImage]
    models: Mapping[str, ServedVersion]
    repository: str
    scores: bool
    url: str
    key_service: str = ""

    def project_in(self, folder: Path) -> Project:
        """Return what Compose is called with; `folder`: of the deployment that made the release."""
        return Project(Path(self.folder), (folder / _COMPOSE,), name=self.project)


def tag_of(project: str, service: str, number: int) -> str:
    """Name the image of a service in a release; it keeps the image from being removed."""
    return f"localhost/{project}-release/{service}:{number}"


def save(release: Release, folder: Path) -> None:
    """Write a release into the folder of its deployment, readable by its owner only."""
    _write(folder / _RELEASE, orjson.dumps(asdict(release), option=orjson.OPT_INDENT_2))


def exists(folder: Path) -> bool:
    """Whether a folder holds a release."""
    return (folder / _RELEASE).is_file()


def load(folder: Path) -> Release:
    """Read a release; raises DeployError if the folder holds none."""
    try:
        fields = orjson.loads((folder / _RELEASE).read_bytes())
        images = {
            name: ReleaseImage(**{**image, "digests": tuple(image["digests"])})
            for name, image in fields["images"].items()
        }
        models = {stage: ServedVersion(**served) for stage, served in fields["models"].items()}
        return Release(**{**fields, "images": images, "models": models})
    except FileNotFoundError:
        raise DeployError(f"{folder} holds no release") from None
    except (OSError, orjson.JSONDecodeError, TypeError, KeyError) as error:
        raise DeployError(f"{folder / _RELEASE} cannot be read: {error}") from error


def freeze(
    configuration: Configuration, project: Project, images: Mapping[str, ReleaseImage], folder: Path
) -> list[str]:
    """Write a copy of the configuration that later changes of the files do not touch.

    Its images are those of the release, and what services mount read-only from the project's
    folder is copied, too; not the models, and no secrets. The sources are kept beside it.

    Returns:
        What is not copied because it is large.

    """
    content: dict[str, Any] = deepcopy(dict(configuration.content))
    left_out = []
    for name, service in content["services"].items():
        service.pop("build", None)
        # only what is in use is in the configuration; the copy is started without profiles
        service.pop("profiles", None)
        service["image"] = images[name].tag
        service["pull_policy"] = "never"
        for volume in service.get("volumes") or ():
            source = Path(volume.get("source") or "")
            if not _is_configuration(volume, configuration, project):
                continue
            if _size(source) > _MOST_COPIED_BYTES:
                left_out.append(str(source))
                continue
            volume["source"] = str(_copy_mounted(source, project.folder, folder))
    for declared in (content.get("configs") or {}).values():
        if declared.get("file"):
            source = Path(declared["file"])
            declared["file"] = str(_copy_mounted(source, project.folder, folder))
    _write(folder / _COMPOSE, json.dumps(content, indent=1).encode())
    sources = folder / _SOURCES
    sources.mkdir(mode=0o700, exist_ok=True)
    for file in (*project.files, *filter(None, [project.env_file])):
        _write(sources / file.name, file.read_bytes())
    return left_out


def present_images(release: Release, engine: Engine) -> None:
    """See that the images of a release are there under their names; give names back that are lost.

    Raises:
        DeployError: an image was removed.

    """
    for service, wanted in release.images.items():
        found = engine.image(wanted.tag)
        if found is not None and found.id == wanted.id:
            continue
        if engine.image(wanted.id) is None:
            raise DeployError(
                f"release {release.number} cannot run: the image {wanted.id} of {service} "
                f"({wanted.name}) was removed"
            )
        engine.tag(wanted.id, wanted.tag)


def forget(folder: Path, engine: Engine) -> None:
    """Remove a release and the names of its images; the log of the deployment stays."""
    with suppress(DeployError):
        for image in load(folder).images.values():
            with suppress(DeployError):
                engine.untag(image.tag)
    for name in (_RELEASE, _COMPOSE):
        (folder / name).unlink(missing_ok=True)
    for name in (_SOURCES, _MOUNTED):
        shutil.rmtree(folder / name, ignore_errors=True)


def _is_configuration(
    volume: Mapping[str, Any], configuration: Configuration, project: Project
) -> bool:
    if volume["type"] != "bind" or not volume.get("read_only"):
        return False
    source = Path(volume["source"])
    repository = configuration.model_repository()
    is_model = repository is not None and source.is_relative_to(repository)
    is_secret = source in configuration.secret_files().values()
    return source.is_relative_to(project.folder) and source.exists() and not is_model | is_secret


def _copy_mounted(source: Path, root: Path, folder: Path) -> Path:
    """Copy with modes and, where this user may, owners: containers read it as other users."""
    relative = source.relative_to(root) if source.is_relative_to(root) else Path(source.name)
    target = folder / _MOUNTED / relative
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True)
    else:
        shutil.copy2(source, target)
    pairs = [(source, target)]
    if source.is_dir():
        pairs += [(each, target / each.relative_to(source)) for each in source.rglob("*")]
    for original, copy in pairs:
        status = original.stat()
        with suppress(PermissionError):
            os.chown(copy, status.st_uid, status.st_gid)
    return target


def _size(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(each.stat().st_size for each in path.rglob("*") if each.is_file())


def _write(path: Path, data: bytes) -> None:
    """Write at once, for the owner only: the configuration may hold secrets.

    Raises DeployError if the disk refuses.
    """
    new = path.with_name(f".{path.name}.new")
    try:
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except OSError as error:
        raise DeployError(f"{path} cannot be written: {error.strerror}") from error
