"""Whether the extension takes a plan: what only it can tell, such as certificate files and series names, is found before a picker is started."""

from warmroute._core import Engine, PythonPlugin, Scraper
from warmroute.config.errors import UsageError
from warmroute.config.flags import Flags
from warmroute.config.plan import Plan
from warmroute.config.settings import engine_settings, policy_settings, scraper_settings

# Nothing is asked of the plugins that are made for a trial.
_ANY_BUDGET_SECONDS = 1.0


def try_plan(plan: Plan, flags: Flags) -> None:
    """Build what the plan asks for, without an endpoint, and throw it away. Raises UsageError."""
    plugins = {name: PythonPlugin(name, definition.role, _ANY_BUDGET_SECONDS) for name, (definition, _) in plan.python_plugins.items()}
    try:
        engine = Engine(engine_settings(flags), policy_settings(plan), plugins)
        settings = scraper_settings(plan, flags)
        if settings is not None:
            Scraper(engine, settings).stop()
    except ValueError as error:
        message = f"the engine refuses the configuration: {error}"
        raise UsageError(message) from error
