"""A simulated model server: the HTTP and metrics face of an inference engine over a discrete-step model of one.

`engine`, `sequence`, `cache`, `cost`, `statistics`, `output` and `tokenizer` do no input or output and take time as
an argument; everything else serves them over HTTP.
"""

from .config import SimConfig, SimConfigError
from .faults import Fault, FaultError
from .pool import SimPool
from .replica import AddressError, Replica
from .requests_log import ReceivedRequest

__all__ = [
    "AddressError",
    "Fault",
    "FaultError",
    "ReceivedRequest",
    "Replica",
    "SimConfig",
    "SimConfigError",
    "SimPool",
]
