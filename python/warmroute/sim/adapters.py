"""LoRA adapters of one replica, loaded and unloaded at run time, with vLLM's answers."""

from __future__ import annotations

from dataclasses import dataclass

from .errors import ApiError

MAX_ADAPTERS = 4096
MISSING_PATH_PREFIX = "/missing"
"""A path below this one does not exist: there is no file system to look at, and a test needs the error."""


@dataclass(frozen=True, slots=True)
class Adapter:
    """A loaded adapter."""

    name: str
    path: str
    number: int
    """vLLM's integer id, from 1."""


class Adapters:
    """Adapters by name, in order of loading."""

    def __init__(self, names: tuple[str, ...]) -> None:
        """Adapters present at start."""
        self._loaded: dict[str, Adapter] = {}
        self._next = 1
        for name in names:
            self._put(name, f"/models/lora/{name}")

    def get(self, name: str) -> Adapter | None:
        """The adapter of this name."""
        return self._loaded.get(name)

    def all(self) -> list[Adapter]:
        """Every adapter."""
        return list(self._loaded.values())

    def load(self, name: str, path: str, *, in_place: bool) -> str:
        """Load an adapter; the text of the answer.

        Raises:
            ApiError: name or path missing, no such path, or already loaded.
        """
        if not name or not path:
            raise ApiError(400, "InvalidUserInput", "Both 'lora_name' and 'lora_path' must be provided.")
        if name in self._loaded and not in_place:
            message = f"The lora adapter '{name}' has already been loaded. If you want to load the adapter in place, set 'load_inplace' to True."
            raise ApiError(400, "InvalidUserInput", message)
        if path == MISSING_PATH_PREFIX or path.startswith(MISSING_PATH_PREFIX + "/"):
            raise ApiError(404, "NotFoundError", f"Loading lora {name} failed: No adapter found for {path}")
        if len(self._loaded) >= MAX_ADAPTERS and name not in self._loaded:
            raise ApiError(400, "InvalidUserInput", f"More than {MAX_ADAPTERS} lora adapters are not simulated.")
        self._put(name, path)
        return f"Success: LoRA adapter '{name}' added successfully."

    def unload(self, name: str) -> str:
        """Unload an adapter; the text of the answer.

        Raises:
            ApiError: no name, or no such adapter.
        """
        if not name:
            raise ApiError(400, "InvalidUserInput", "'lora_name' needs to be provided to unload a LoRA adapter.")
        if self._loaded.pop(name, None) is None:
            raise ApiError(404, "NotFoundError", f"The lora adapter '{name}' cannot be found.")
        return f"Success: LoRA adapter '{name}' removed successfully."

    def _put(self, name: str, path: str) -> None:
        before = self._loaded.get(name)
        if before is None:
            number, self._next = self._next, self._next + 1
        else:
            number = before.number
        self._loaded[name] = Adapter(name, path, number)
