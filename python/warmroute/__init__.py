"""warmroute: an endpoint picker and inference gateway for servers of large language models."""

from warmroute._core import __version__

__all__ = ["__version__"]
