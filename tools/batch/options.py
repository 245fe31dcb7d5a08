"""Options that the bulk commands share, and their check before anything starts."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from typer.core import TyperCommand

from tools.errors import BatchError
from triton_python_backend import contract
from triton_python_backend.contract import Detail

EXIT_STATUSES: Final = (
    "Exit status: 0 all inputs answered; 1 a wrong option or configuration; 2 some inputs failed "
    "(they are listed); 3 the service is not reachable; 130 interrupted."
)


class Format(StrEnum):
    """How answers are written."""

    TABLE = "table"
    NDJSON = "ndjson"
    CSV = "csv"
    PARQUET = "parquet"


Paths = Annotated[
    list[str],
    typer.Argument(
        help="Files, folders, globs, archives (zip, tar, tar.gz), or - for standard input.",
        metavar="PATH",
    ),
]
FromList = Annotated[
    bool, typer.Option("--from-list", help="Standard input (-) lists paths, one a line.")
]
Url = Annotated[
    str | None,
    typer.Option(help="Address of the gateway; default: AURUM_HOST and AURUM_PORT."),
]
ApiKeyFile = Annotated[
    Path | None,
    typer.Option(
        help="File with the API key or token to send; default: AURUM_API_KEY or AURUM_API_KEY_FILE."
    ),
]
Parallel = Annotated[int, typer.Option(min=1, max=256, help="Requests at a time.")]
Output = Annotated[
    Path | None, typer.Option(help="File to write; its suffix (.ndjson, .csv, .parquet) counts.")
]
Resume = Annotated[
    bool,
    typer.Option("--resume", help="Skip what the NDJSON file of --output has already answered."),
]
FormatOption = Annotated[
    Format | None,
    typer.Option(
        "--format", help="Default: by the suffix of --output; table on a terminal, else ndjson."
    ),
]
Draw = Annotated[Path | None, typer.Option(help="Folder for pictures with faces drawn.")]
Html = Annotated[
    Path | None, typer.Option(help="Contact sheet to write: one file, shown without a network.")
]
Detailed = Annotated[Detail, typer.Option(help="`high` also finds small faces; takes seconds.")]
MinConfidence = Annotated[
    float, typer.Option(min=0, max=1, help="Leave out faces with a lower confidence.")
]
MaxFaces = Annotated[
    int | None, typer.Option(min=1, max=contract.MOST_FACES, help="Most faces, largest first.")
]
# the base class of all errors in a command line, which typer does not export
_UsageError: Final[type[Exception]] = typer.BadParameter.__mro__[1]


@dataclass(frozen=True, slots=True)
class FaceSelection:
    """Which faces to look for, as `/api/ml/score` has it."""

    max_faces: int | None = None
    min_confidence: float = contract.MIN_CONFIDENCE
    detail: Detail = "standard"


@dataclass(frozen=True, slots=True)
class Options:
    """What all bulk commands are given."""

    paths: list[str]
    from_list: bool
    url: str | None
    parallel: int
    output: Path | None
    resume: bool
    format: Format | None
    draw: Path | None
    html: Path | None

    def chosen_format(self, *, is_terminal: bool) -> Format:
        """Return the format; raises BatchError for options that contradict each other."""
        chosen = self._format(is_terminal=is_terminal)
        if self.resume and (self.output is None or chosen is not Format.NDJSON):
            raise BatchError("--resume needs --output FILE with --format ndjson")
        if chosen is Format.PARQUET and self.output is None:
            raise BatchError("--format parquet needs --output FILE")
        if self.output is not None and self.output.exists() and not self.resume:
            hint = "; --resume goes on with it" if chosen is Format.NDJSON else ""
            raise BatchError(f"{self.output} exists{hint}")
        return chosen

    def _format(self, *, is_terminal: bool) -> Format:
        if self.format is not None:
            return self.format
        if self.output is None:
            return Format.TABLE if is_terminal else Format.NDJSON
        known = {".csv": Format.CSV, ".parquet": Format.PARQUET}
        return known.get(self.output.suffix.lower(), Format.NDJSON)


class BatchCommand(TyperCommand):
    """A command whose wrong options end with status 1: 2 means that some inputs failed."""

    def make_context(self, *arguments: Any, **more: Any) -> Any:
        """Parse the command line."""
        try:
            return super().make_context(*arguments, **more)
        except _UsageError as error:
            error.exit_code = BatchError.exit_status  # type: ignore[attr-defined]
            raise
