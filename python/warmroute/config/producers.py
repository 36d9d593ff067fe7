"""Who makes the data that plugins consume: default producers (rule 6), and the order in which plugins run (rule 7)."""

from warmroute.config.document import Path
from warmroute.config.errors import a
from warmroute.config.hints import unknown_plugin
from warmroute.config.known_types import EXACT_PREFIX_TYPES, default_producer, several_may_make
from warmroute.config.load import Plugin
from warmroute.config.notices import Notice
from warmroute.config.resolution import Resolution

_TOKEN_PRODUCER = "token-producer"  # noqa: S105 -- a type of plugin
# With any of these parameters it makes real token ids; else it estimates their number.
_TOKENIZER_PARAMETERS = ("local", "vllm", "modelName")
#: What several producers of one policy make, each under its own name.
PREFIX_MATCH = "prefix match"


def add_producers(resolution: Resolution) -> None:
    """Add a default producer of everything that is consumed and that nothing makes, until nothing is missing."""
    _refuse_second_producers(resolution)
    settled: set[str] = set()
    while True:
        settled |= {data for plugin in resolution.plugins.values() for data in plugin.type.consumes if _is_made(resolution, data)}
        missing = (
            (data, plugin)
            for plugin in resolution.plugins.values()
            for data in plugin.type.consumes
            if data not in settled and not _names_producer(plugin, data)
        )
        data, consumer = next(missing, (None, None))
        if data is None or consumer is None:
            break
        producer = default_producer(data)
        if producer is None:
            path: Path = (*(consumer.path or ("plugins",)), "type")
            resolution.problem(path, f'"{consumer.name}" consumes {data}; nothing makes it, and there is no default for that')
        else:
            made = any(plugin.type.produces == data for plugin in resolution.plugins.values())
            why = "names no producer of it" if made else "nothing makes it"
            resolution.add(producer, f'added by rule 6: "{consumer.name}" consumes {data} and {why}')
        settled.add(data)
    _check_references(resolution)
    _note_shared_producers(resolution)
    _note_missing_tokenizer(resolution)


def in_running_order(resolution: Resolution) -> tuple[Plugin, ...]:
    """The plugins of the policy, each after those whose data it consumes; otherwise as they stand. A cycle is a problem."""
    waiting = [plugin for plugin in resolution.plugins.values() if plugin.type.in_policy]
    ordered: list[Plugin] = []
    while waiting:
        unmade = {plugin.type.produces for plugin in waiting}
        ready = next((plugin for plugin in waiting if not unmade & (set(plugin.type.consumes) - {plugin.type.produces})), None)
        if ready is None:
            names = ", ".join(f'"{plugin.name}"' for plugin in waiting if plugin.type.produces is not None)
            resolution.problem(("plugins",), f"{names} consume what each other makes: none of them can run first")
            break
        waiting.remove(ready)
        ordered.append(ready)
    return tuple(ordered)


def _is_made(resolution: Resolution, data: str) -> bool:
    """Whether every consumer of `data` has a producer.

    As in the reference, who names none means the one under the default name, also beside configured ones of the same type under other names. A producer
    of another type (the exact one beside the approximate) is taken to be what is meant.
    """
    makers = [plugin for plugin in resolution.plugins.values() if plugin.type.produces == data]
    default = default_producer(data)
    if not makers or data != PREFIX_MATCH:
        return bool(makers)
    if any(plugin.name == default or plugin.type.name != default for plugin in makers):
        return True
    consumers = (plugin for plugin in resolution.plugins.values() if data in plugin.type.consumes)
    return all(_names_producer(plugin, data) for plugin in consumers)


def _names_producer(plugin: Plugin, data: str) -> bool:
    return any(reference.produces == data and reference.plugin is not None for reference in plugin.parameters.references)


def _refuse_second_producers(resolution: Resolution) -> None:
    first: dict[str, Plugin] = {}
    for plugin in resolution.plugins.values():
        data = plugin.type.produces
        if data is None or several_may_make(data):
            continue
        if data in first:
            path: Path = (*(plugin.path or ("plugins",)), "type")
            message = f'a second producer of {data}: "{first[data].name}" is already one, and this version runs one of each kind'
            resolution.problem(path, message)
        else:
            first[data] = plugin


def _check_references(resolution: Resolution) -> None:
    for plugin in resolution.plugins.values():
        for reference in plugin.parameters.references:
            path: Path = (*(plugin.path or ("plugins",)), "parameters", *reference.path)
            makers = [other.name for other in resolution.plugins.values() if other.type.produces == reference.produces]
            if reference.plugin is None:
                if not makers:
                    resolution.problem(path, f"nothing makes {reference.produces}; configure {a(str(default_producer(reference.produces)))}")
                continue
            named = resolution.plugins.get(reference.plugin)
            if named is None:
                resolution.problem(path, unknown_plugin(reference.plugin, makers, produces=reference.produces))
            elif named.type.produces != reference.produces:
                message = f'"{named.name}" is {a(named.type.role_text)} and does not make {reference.produces}{_known(makers)}'
                resolution.problem(path, message)


def _note_shared_producers(resolution: Resolution) -> None:
    """The reference gives who names no producer one under the default name, beside configured ones of other names."""
    for producer in resolution.plugins.values():
        data = producer.type.produces
        if data is None or producer.path is None or producer.name == default_producer(data) or not _stands_for_default(resolution, producer, data):
            continue
        for plugin in resolution.plugins.values():
            named = {reference.produces for reference in plugin.parameters.references}
            if data in plugin.type.consumes and data not in named and plugin.path is not None:
                written = f'"{plugin.name}" without a producer of {data}'
                instead = f'here it is "{producer.name}", there one more {default_producer(data)}'
                resolution.notices.append(Notice.differs(resolution.document, (*plugin.path, "type"), written, instead))


def _note_missing_tokenizer(resolution: Resolution) -> None:
    """The exact index without token ids is asked nothing: in the reference it matches nothing, without a word."""
    plugins = resolution.plugins.values()
    makers = [plugin for plugin in plugins if plugin.type.name == _TOKEN_PRODUCER]
    if any(maker.parameters.given.get(name) is not None for maker in makers for name in _TOKENIZER_PARAMETERS):
        return
    for plugin in plugins:
        if plugin.type.name in EXACT_PREFIX_TYPES:
            written = f'"{plugin.name}" without a tokenizer'
            instead = f"prompts of text are matched by what was sent before; give {_TOKEN_PRODUCER} local: {{path: FOLDER}} or vllm: {{url: URL}}"
            resolution.notices.append(Notice.approximate(resolution.document, (*(plugin.path or ("plugins",)), "type"), written, instead))


def _stands_for_default(resolution: Resolution, producer: Plugin, data: str) -> bool:
    if not several_may_make(data):
        return True
    makers = [plugin for plugin in resolution.plugins.values() if plugin.type.produces == data]
    unnamed = makers[0] is producer and all(plugin.name != default_producer(data) for plugin in makers)
    return data == PREFIX_MATCH and unnamed and producer.type.name != default_producer(data)


def _known(makers: list[str]) -> str:
    return f" (known: {', '.join(makers)})" if makers else ""
