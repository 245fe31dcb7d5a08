"""The HTTP service of Aurum: validates images, asks Triton, answers JSON."""

import os

# read when gRPC is loaded: its core would write a line of its own for each handshake that fails,
# and every line of the log is JSON. What fails is in the status of a call, too
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
