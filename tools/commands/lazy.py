"""Groups whose sub-commands are imported when they are called: `--help` needs none of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, ClassVar

import typer
from rich.console import Console
from typer.core import TyperCommand, TyperGroup

_FIRST_PARTY = frozenset({"aurum_client", "gateway", "tools", "triton_python_backend"})


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a sub-command is found.

    module: what is imported. name: a function in it, or a Typer with commands of its own.
    help: first sentence of its help, which the group lists. extra: what installs its imports.
    """

    module: str
    name: str
    help: str
    extra: str

    def load(self, called: str, command_path: str) -> TyperCommand | TyperGroup:
        """Import the command; without its packages, name the extra and exit with status 1."""
        try:
            found: Any = getattr(import_module(self.module), self.name)
        except ModuleNotFoundError as error:
            if error.name is None or error.name.split(".")[0] in _FIRST_PARTY:
                raise
            Console(stderr=True, highlight=False, soft_wrap=True, markup=False).print(
                f"error: `{command_path} {called}` needs {error.name}: "
                f"pip install 'aurum[{self.extra}]'"
            )
            raise typer.Exit(1) from error
        if not isinstance(found, typer.Typer):
            app = typer.Typer(add_completion=False)
            app.command(called)(found)
            found = app
        command = typer.main.get_command(found)
        if not isinstance(command, TyperCommand | TyperGroup):
            raise TypeError(f"{self.module}.{self.name} is no command")
        command.name = called
        return command


class LazyGroup(TyperGroup):
    """A group of the commands in `entries`."""

    entries: ClassVar[Mapping[str, Entry]] = {}

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = {
            name: TyperCommand(name, help=entry.help) for name, entry in self.entries.items()
        }
        self._lists_only = False

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Import a command; while the group prints its own help, only name it."""
        if self._lists_only or cmd_name not in self.entries:
            return super().get_command(ctx, cmd_name)
        return self.entries[cmd_name].load(cmd_name, ctx.command_path)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """List the commands without importing them."""
        self._lists_only = True
        try:
            super().format_help(ctx, formatter)
        finally:
            self._lists_only = False


def lazy_group(commands: Mapping[str, Entry]) -> type[LazyGroup]:
    """Make the class of a group with these commands, in this order."""
    return type("LazyGroup", (LazyGroup,), {"entries": commands})
