"""A configuration while the defaulting rules work on it: what was configured, what was added and why, what is wrong."""

from warmroute.config.document import Path
from warmroute.config.effective import written
from warmroute.config.errors import Problem, a
from warmroute.config.known_types import find_type
from warmroute.config.load import LoadedConfig, Plugin
from warmroute.config.notices import Notice
from warmroute.config.parameters import NONE, check_parameters


class Resolution:
    """Plugins by name, configured ones first; the rules add to it."""

    def __init__(self, loaded: LoadedConfig) -> None:
        """Starts with what is configured."""
        self.loaded = loaded
        self.document = loaded.document
        self.config = loaded.config
        self.plugins: dict[str, Plugin] = dict(loaded.plugins)
        self.problems: list[Problem] = []
        self.notices: list[Notice] = list(loaded.notices)
        #: Paths of the effective configuration that a rule made, and which.
        self.reasons: dict[Path, str] = {}

    def problem(self, path: Path, message: str) -> None:
        """Something that makes the configuration unusable."""
        self.problems.append(self.document.problem(path, message))

    def origin(self, path: Path) -> str:
        """Where the document says what stands at `path`."""
        return written(self.document, path) or "default"

    def add(self, type_name: str, reason: str) -> Plugin:
        """The plugin named as this type; added with its defaults where there is none. `reason`: which rule, and why."""
        known = find_type(type_name)
        if known is None:
            message = f"the defaulting rules name {type_name}, which does not exist"
            raise LookupError(message)
        configured = self.plugins.get(type_name)
        if configured is not None:
            if configured.type.name != type_name:
                path = (*(configured.path or ("plugins",)), "name")
                self.problem(
                    path, f"{a(configured.type.name)} has this name, and {a(type_name)} has to be added under it ({reason}); choose another name"
                )
            return configured
        problems: list[Problem] = []
        parameters = check_parameters(self.document, (), known, type_name, {}, problems)
        if parameters is None:
            details = "; ".join(f"{problem.field}: {problem.message}" for problem in problems)
            self.problem(("plugins",), f"{a(type_name)} has to be added ({reason}) and cannot do with defaults ({details}); configure one")
        self.reasons["plugins", len(self.plugins)] = reason
        plugin = Plugin(type_name, known, parameters or NONE)
        self.plugins[type_name] = plugin
        return plugin

    def named_or_default(self, name: str) -> Plugin:
        """The plugin of that name; of those that rule 5 adds where they are referred to, a new one."""
        return self.plugins.get(name) or self.add(name, f"added by rule 5: {name} is referred to and not configured")

    def with_role(self, *roles: str) -> list[Plugin]:
        """The plugins that take part in one of the roles, configured ones first."""
        return [plugin for plugin in self.plugins.values() if plugin.has(*roles)]
