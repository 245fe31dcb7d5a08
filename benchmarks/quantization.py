"""Compare the speed of a quantised network with the float one: onnxruntime alone, one thread.

    python -m benchmarks.quantization FLOAT.onnx LIGHT.onnx [FLOAT.onnx LIGHT.onnx ...]

Both are finished graphs of one stage, as in `model_repository/`. Each round runs every input
through both, in alternating order. Times are processor times of the thread, which other programs
on the machine disturb less than wall-clock times.
"""

import itertools
import platform
import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import onnxruntime
import orjson
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from tools.golden import inputs
from tools.quantization.samples import from_golden_set
from triton_python_backend import contract
from triton_python_backend.decoding import Picture
from triton_python_backend.preprocess import make_closeup, make_frame

_WARM_UP: Final = 3
_BATCHES: Final = (1, 8)


@dataclass(frozen=True, slots=True)
class Row:
    """Medians of one input in milliseconds of processor time; ratios are taken pair by pair."""

    stage: str
    float_network: str
    light_network: str
    given: str
    float_ms: float
    light_ms: float
    ratio: float
    ratio_low: float
    ratio_high: float
    rounds: int


def main(
    graphs: Annotated[list[Path], typer.Argument(help="FLOAT LIGHT, FLOAT LIGHT …")],
    rounds: Annotated[int, typer.Option(help="Runs of each input through each network.")] = 31,
    out: Annotated[Path, typer.Option(help="The JSON file to write.")] = Path(
        "benchmarks/results/quantization.json"
    ),
) -> None:
    """Measure pairs of networks, write the JSON and print a table."""
    if not graphs or len(graphs) % 2:
        raise typer.BadParameter("name pairs: FLOAT LIGHT")
    rows: list[Row] = []
    for exact, light in zip(graphs[::2], graphs[1::2], strict=True):
        rows += measure(exact, light, rounds=rounds)
    out.write_bytes(
        orjson.dumps(
            {"machine": machine(), "rows": [asdict(row) for row in rows]},
            option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE,
        )
    )
    table = Table("stage", "networks", "input", "float ms", "lighter ms", "float : lighter")
    for row in rows:
        table.add_row(
            row.stage,
            f"{row.float_network} {row.light_network}",
            row.given,
            f"{row.float_ms:.2f}",
            f"{row.light_ms:.2f}",
            f"{row.ratio:.2f} ({row.ratio_low:.2f} to {row.ratio_high:.2f})",
        )
    Console(soft_wrap=True).print(table)


def measure(exact: Path, light: Path, *, rounds: int) -> list[Row]:
    """Run both alternately on every input of their stage."""
    sessions = [_open(exact), _open(light)]
    stage = sessions[0].get_modelmeta().custom_metadata_map["aurum.stage"]
    found = []
    for given, feed in _inputs(stage):
        for session in sessions * _WARM_UP:
            session.run(None, feed)
        times: list[list[float]] = [[], []]
        for turn in track(range(rounds), description=f"{light} {given}", transient=True):
            for which in (0, 1) if turn % 2 else (1, 0):
                begun = time.thread_time()
                sessions[which].run(None, feed)
                times[which].append(1000 * (time.thread_time() - begun))
        ratios = sorted(a / b for a, b in zip(*times, strict=True))
        quarter = len(ratios) // 4
        found.append(
            Row(
                stage=stage,
                float_network=_name(exact),
                light_network=_name(light),
                given=given,
                float_ms=statistics.median(times[0]),
                light_ms=statistics.median(times[1]),
                ratio=statistics.median(ratios),
                ratio_low=ratios[quarter],
                ratio_high=ratios[-1 - quarter],
                rounds=rounds,
            )
        )
    return found


def machine() -> dict[str, Any]:
    """Return the processor, its 8-bit instructions, and versions."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    first = itertools.takewhile(lambda line: ":" in line, lines)
    entries = dict(_entry(line) for line in first)
    flags = set(entries.get("flags", "").split())
    return {
        "processor": entries.get("model name", platform.processor()),
        "8-bit instructions": sorted(flags & {"avx512_vnni", "avx_vnni", "amx_int8", "amx_tile"}),
        "onnxruntime": onnxruntime.__version__,
        "threads": 1,
    }


def _entry(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name.strip(), value.strip()


def _open(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _inputs(stage: str) -> list[tuple[str, dict[str, Any]]]:
    if stage == contract.EMBEDDING_STAGE.name:
        crops = from_golden_set().calibration.crops
        return [(f"{n} crop{'s' * (n > 1)}", {contract.CROPS: crops[:n]}) for n in _BATCHES]
    pixels = inputs.portrait()
    frame = make_frame(Picture.whole(pixels))[0]
    wide = make_frame(Picture.whole(np.ascontiguousarray(pixels[:384])))[0]
    closeup = make_closeup(Picture.whole(pixels))[0]
    return [
        (f"canvas {canvas.shape[1]} x {canvas.shape[0]}", {contract.CANVAS: canvas[None]})
        for canvas in (frame, wide, closeup)
    ]


def _name(path: Path) -> str:
    if path.name != "model.onnx":
        return path.stem
    return f"{path.parent.parent.name}/{path.parent.name}"


if __name__ == "__main__":
    typer.run(main)
