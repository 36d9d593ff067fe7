"""Scheduling profiles: what stands in them, and what the rules add (rules 2 to 4)."""

from warmroute.config.document import Path
from warmroute.config.errors import a
from warmroute.config.known_types import FILTER, HANDLER, PICKER, SATURATION_DETECTOR, SCORER, names_with_role
from warmroute.config.load import Plugin
from warmroute.config.models import SchedulingProfile
from warmroute.config.notices import Notice
from warmroute.config.plan import OWN_SCORER, Profile, ProfileEntry
from warmroute.config.resolution import Resolution

_SINGLE_HANDLER = "single-profile-handler"
_DEFAULT_PICKER = "max-score-picker"


def resolve_profiles(resolution: Resolution) -> tuple[Profile, ...]:
    """The profiles, each with a picker, and a handler for them."""
    configured = resolution.config.scheduling_profiles
    profiles = [_configured(resolution, index, profile) for index, profile in enumerate(configured)] or [_default(resolution)]
    for index, profile in enumerate(profiles):
        if profile.name in {other.name for other in profiles[:index]}:
            resolution.problem(("schedulingProfiles", index, "name"), f'a second profile named "{profile.name}"')
    _check_handlers(resolution, profiles)
    return tuple(_with_picker(resolution, index, profile) for index, profile in enumerate(profiles))


def _configured(resolution: Resolution, index: int, profile: SchedulingProfile) -> Profile:
    entries = []
    for position, entry in enumerate(profile.plugins):
        plugin = resolution.named_or_default(entry.plugin_ref)
        path: Path = ("schedulingProfiles", index, "plugins", position, "weight")
        if entry.weight is not None and entry.weight < 0:
            resolution.problem(path, f"a weight is not negative, not {entry.weight:g}")
        if entry.weight is not None and not plugin.has(SCORER):
            written = f'weight of "{plugin.name}"'
            resolution.notices.append(
                Notice.without_effect(resolution.document, path, written, f"only scorers have one, and it is {a(plugin.type.role_text)}")
            )
        if not plugin.has(FILTER, SCORER, PICKER):
            place = ("schedulingProfiles", index, "plugins", position, "pluginRef")
            written = f'"{plugin.name}" in a profile'
            instead = f"{a(plugin.type.role_text)} works by being in plugins"
            resolution.notices.append(Notice.without_effect(resolution.document, place, written, instead))
        entries.append(_entry(plugin, entry.weight))
    return Profile(profile.name, tuple(entries))


def _entry(plugin: Plugin, weight: float | None) -> ProfileEntry:
    return ProfileEntry(plugin, (1.0 if weight is None else weight) if plugin.has(SCORER) else None)


def _default(resolution: Resolution) -> Profile:
    # A saturation detector that is a filter besides is there to say when the pool is full: with it alone nothing is said of scheduling.
    plugins = resolution.with_role(FILTER, SCORER, PICKER)
    reason = "added by rule 2: no profile is given, so one has every filter, scorer and picker"
    if all(plugin.has(SATURATION_DETECTOR) for plugin in plugins):
        reason = "default policy: nothing is said of scheduling"
        plugins.append(resolution.add(OWN_SCORER, reason))
    resolution.reasons["schedulingProfiles",] = reason
    return Profile("default", tuple(_entry(plugin, None) for plugin in plugins))


def _check_handlers(resolution: Resolution, profiles: list[Profile]) -> None:
    handlers = resolution.with_role(HANDLER)
    for handler in handlers[1:]:
        message = f'a second profile handler: "{handlers[0].name}" is already one, and there is exactly one'
        resolution.problem((*(handler.path or ("plugins",)), "type"), message)
    several = len(profiles) > 1
    known = ", ".join(name for name in names_with_role(HANDLER) if name != _SINGLE_HANDLER)
    choice = f"configure a profile handler that chooses between them (known: {known})"
    if not handlers and several:
        resolution.problem(("schedulingProfiles",), f"{len(profiles)} profiles and no profile handler: {choice}")
    elif not handlers:
        resolution.add(_SINGLE_HANDLER, "added by rule 3: one profile and no profile handler")
    elif several and handlers[0].type.name == _SINGLE_HANDLER:
        resolution.problem(
            (*(handlers[0].path or ("plugins",)), "type"), f'"{handlers[0].name}" runs one profile and there are {len(profiles)}: {choice}'
        )
    elif several:
        _note_missing_default(resolution, handlers[0], [profile.name for profile in profiles])


def _note_missing_default(resolution: Resolution, handler: Plugin, profiles: list[str]) -> None:
    """A default that leads nowhere is allowed, as in the reference, where a request without the header then gets a 429."""
    default = handler.parameters.values.get("defaultProfile")
    if default is not None and default not in profiles:
        path: Path = (*(handler.path or ("plugins",)), "parameters", "defaultProfile")
        written = f'defaultProfile "{default}" of "{handler.name}"'
        instead = f"no profile has that name, so a request that names none is refused (profiles: {', '.join(profiles)})"
        resolution.notices.append(Notice.leads_nowhere(resolution.document, path, written, instead))


def _with_picker(resolution: Resolution, index: int, profile: Profile) -> Profile:
    pickers = [entry.plugin.name for entry in profile.entries if entry.plugin.has(PICKER)]
    path: Path = ("schedulingProfiles", index, "plugins")
    if len(pickers) > 1:
        where = path if resolution.config.scheduling_profiles else ("plugins",)
        resolution.problem(where, f"more than one picker ({', '.join(pickers)}); a profile has one")
    if pickers:
        return profile
    configured = resolution.with_role(PICKER)
    reason = "added by rule 4: the profile has no picker"
    picker = configured[0] if configured else resolution.add(_DEFAULT_PICKER, reason)
    resolution.reasons[*path, len(profile.entries)] = reason
    return Profile(profile.name, (*profile.entries, _entry(picker, None)))
