"""Import networks of stages beyond detection, embedding and scoring.

The importer of a stage `face_x` is the module `x` of this package, with a function
`prepare(network: Network) -> Prepared`. docs/adding-a-stage.md shows an example.
"""

from importlib import import_module
from importlib.util import find_spec

from tools.errors import WeightsError
from tools.importing.network import Network
from tools.registry.prepared import Prepared


def prepare(stage: str, network: Network) -> Prepared:
    """Build the graph of a stage with that stage's importer.

    Raises:
        WeightsError: if the stage has no importer, or the importer rejects the network.
    """
    name = f"{__package__}.{stage.removeprefix('face_')}"
    if find_spec(name) is None:
        raise WeightsError(f"{stage} has no importer: {name.replace('.', '/')}.py is missing")
    prepared: Prepared = import_module(name).prepare(network)
    return prepared
