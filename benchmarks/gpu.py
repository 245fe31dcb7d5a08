"""What a GPU makes of the networks alone, through PyTorch: pictures a second at batches of 1-128.

    python -m benchmarks.gpu ../shared/models/det_500m.onnx ...

The built-in detector and embedder, and the raw ONNX files given: detectors see 640 x 640 pixels,
embedders 112 x 112. Each batch is one captured CUDA graph, as TensorRT and ONNX Runtime replay it,
with random pixels that lie on the device already. So this is what the arithmetic allows, not what a
service reaches: decoding, alignment and copies are outside of it. Wants the extra `train`.
"""

import json
import statistics
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Final

import onnx
import torch
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn

from tools.training.detection.start import read_detector
from tools.training.embedding.start import read_student
from tools.training.onnx_network import OnnxNetwork

BATCHES: Final = (1, 2, 4, 8, 16, 32, 64, 128)
FRAME, FACE = 640, 112
_REPOSITORY: Final = Path(__file__).parent.parent / "model_repository"


@dataclass(frozen=True, slots=True)
class Network:
    """A network on the CPU in 32 bits, and the side of the pictures it sees."""

    name: str
    module: nn.Module
    side: int


@dataclass(frozen=True, slots=True)
class Row:
    """Median, least and greatest milliseconds of one batch."""

    network: str
    precision: str
    batch: int
    median_ms: float
    least_ms: float
    greatest_ms: float

    @property
    def per_second(self) -> float:
        """Pictures a second."""
        return 1000 * self.batch / self.median_ms


def networks(files: list[Path]) -> Iterator[Network]:
    """The built-in ones and those of the files."""
    pixels = torch.rand(4, 3, 320, 320) * 2 - 1
    detector = _REPOSITORY / "face_detection" / "1" / "model.onnx"
    yield Network("built-in detector", read_detector(detector, pixels), FRAME)
    embedder = _REPOSITORY / "face_embedding" / "1" / "model.onnx"
    yield Network("built-in embedder", read_student(embedder, pixels[..., :FACE, :FACE]), FACE)
    for file in files:
        shape = onnx.load(file).graph.input[0].type.tensor_type.shape
        side = FACE if shape.dim[2].dim_value == FACE else FRAME
        yield Network(file.stem, OnnxNetwork(file), side)


@torch.no_grad()
def captured(module: nn.Module, pixels: Tensor) -> torch.cuda.CUDAGraph:
    """One pass over `pixels` [N,3,S,S] as a CUDA graph, after warming up."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            module(pixels)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        module(pixels)
    return graph


def milliseconds(graph: torch.cuda.CUDAGraph, *, rounds: int) -> list[float]:
    """How long each replay took."""
    found = []
    for _ in range(rounds):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        graph.replay()
        end.record()
        end.synchronize()
        found.append(begin.elapsed_time(end))
    return found


def measure(network: Network, *, half: bool, rounds: int) -> Iterator[Row]:
    """Time every batch."""
    kind = torch.float16 if half else torch.float32
    module = network.module.eval().to("cuda", kind, memory_format=torch.channels_last)
    for batch in BATCHES:
        pixels = torch.rand(batch, 3, network.side, network.side, device="cuda", dtype=kind)
        graph = captured(module, pixels.contiguous(memory_format=torch.channels_last))
        spent = milliseconds(graph, rounds=rounds)
        precision = "FP16" if half else "TF32"
        yield Row(network.name, precision, batch, statistics.median(spent), min(spent), max(spent))


def main(
    files: Annotated[list[Path] | None, typer.Argument(exists=True, help="Raw ONNX.")] = None,
    rounds: Annotated[int, typer.Option(help="Replays of each batch.")] = 50,
    out: Annotated[Path, typer.Option(help="JSON.")] = Path("benchmarks/results/gpu.json"),
) -> None:
    """Measure the networks and write a table."""
    if not torch.cuda.is_available():
        typer.echo("error: PyTorch sees no GPU here, and this measures one", err=True)
        raise typer.Exit(1)
    # as TensorRT and ONNX Runtime compute with 32 bits unless told otherwise
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    rows: list[Row] = []
    for network in track(list(networks(files or [])), "networks"):
        for half in (False, True):
            rows += measure(network, half=half, rounds=rounds)
    machine = {"gpu": torch.cuda.get_device_name(), "torch": torch.__version__}
    content = {"machine": machine, "rounds": rounds, "rows": [asdict(row) for row in rows]}
    out.write_text(json.dumps(content, indent=2) + "\n")
    table = Table("network", "precision", *(f"{batch}" for batch in BATCHES), title="per second")
    for start in range(0, len(rows), len(BATCHES)):
        line = rows[start : start + len(BATCHES)]
        table.add_row(
            line[0].network, line[0].precision, *(f"{row.per_second:,.0f}" for row in line)
        )
    Console(soft_wrap=True).print(table)


if __name__ == "__main__":
    typer.run(main)
