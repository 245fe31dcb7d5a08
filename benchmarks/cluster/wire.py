"""A link that delays and loses frames: `python -m benchmarks.cluster.wire ONE OTHER SECONDS LOSS`.

It carries every frame between two interfaces, later by SECONDS, and drops a share LOSS of them. The
kernel's `netem` does the same where it is built in.
"""

import asyncio
import random
import socket
import sys
from functools import partial
from typing import Final

_EVERY_PROTOCOL: Final = 0x0003
_LONGEST: Final = 65_536


def _open(interface: str) -> socket.socket:
    raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_EVERY_PROTOCOL))
    raw.bind((interface, 0))
    raw.setblocking(False)
    return raw


def _send(to: socket.socket, frame: bytes) -> None:
    try:
        to.send(frame)
    except OSError:
        # a full queue loses frames, as links do
        return


def _carry(one: socket.socket, to: socket.socket, delay_seconds: float, loss: float) -> None:
    loop = asyncio.get_running_loop()
    while True:
        try:
            frame, address = one.recvfrom(_LONGEST)
        except BlockingIOError:
            return
        # what this program itself sent is seen once more
        own = address[2] == socket.PACKET_OUTGOING  # type: ignore[attr-defined,unused-ignore]
        if not own and random.random() >= loss:
            loop.call_later(delay_seconds, _send, to, frame)


async def run(first: str, second: str, *, delay_seconds: float, loss: float) -> None:
    """Carry frames until cancelled; needs root."""
    one, other = _open(first), _open(second)
    loop = asyncio.get_running_loop()
    for source, sink in ((one, other), (other, one)):
        loop.add_reader(source, partial(_carry, source, sink, delay_seconds, loss))
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(
        run(sys.argv[1], sys.argv[2], delay_seconds=float(sys.argv[3]), loss=float(sys.argv[4]))
    )
