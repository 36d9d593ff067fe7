"""What the user asked of `warmroute up`, checked and without defaults left to guess."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from warmroute import policies
from warmroute.config.errors import UsageError as FlagError
from warmroute.config.flags import parse_flags
from warmroute.local.errors import UsageError

#: Length of the list of endpoints that the picker hands to Envoy: one to send to, one for each retry.
FALLBACKS = 3

#: What `--picker-host` and `--sim-preset` may say; empty: the default of the process that it is for.
PICKER_HOSTS = ("", "native", "grpcio")
SIM_PRESETS = ("", "h100-8b", "h100-70b", "instant")

_SIZE = re.compile(r"(\d+)\s*(|[kKMG]i?)[bB]?")
_FACTORS = {"": 1, "k": 10**3, "K": 10**3, "ki": 2**10, "Ki": 2**10, "M": 10**6, "Mi": 2**20, "G": 10**9, "Gi": 2**30}


@dataclass(frozen=True, slots=True)
class SimSettings:
    """The pool of simulated model servers, when there is one."""

    replicas: int
    #: First of `replicas` consecutive ports; 0 finds free ones.
    port: int = 0
    models: tuple[str, ...] = ()
    preset: str = ""


@dataclass(frozen=True, slots=True)
class PickerSettings:
    """Flags handed on to `warmroute epp`; an empty text leaves its default."""

    host: str = ""
    policy: str = ""
    config_file: Path | None = None
    explain: bool = False
    plugin_modules: tuple[str, ...] = ()
    plugin_timeout: str = ""
    allow_experimental: bool = False
    #: Share of the streamed answers that the picker watches, as text.
    response_sample: str = ""
    record_decisions: Path | None = None
    record_sample: str = ""
    record_max_bytes: str = ""

    def check(self) -> None:
        """Refuse what the picker would refuse of its flags and modules."""
        for flag, given in (("--plugin-timeout", self.plugin_timeout), ("--response-sample", self.response_sample)):
            if given:
                _check_flag(flag, given)
        for module in self.plugin_modules:
            if module.endswith(".py"):
                _check_opens("--plugin-module", Path(module), "rb")
        _check_recording(self)

    def recording(self) -> list[str]:
        """The flags of the recording of decisions; none where there is none."""
        given = [f"--record-sample={self.record_sample}"] * bool(self.record_sample)
        given += [f"--record-max-bytes={self.record_max_bytes}"] * bool(self.record_max_bytes)
        if self.record_decisions is not None:
            # A picker that is started again finds the file in use, and is to serve all the same.
            given += [f"--record-decisions={self.record_decisions}", "--record-optional"]
        return given


@dataclass(frozen=True, slots=True)
class KvEventsOptions:
    """KV events of the model servers, when the gateway is to go by them."""

    #: Address of a server's publisher; empty for simulated ones, whose addresses are known.
    template: str = ""
    #: Port where a server replays what was missed; 0: nowhere.
    replay_port: int = 0
    #: What makes token ids of prompts: a path, or the URL of a server that renders prompts; empty: the first simulated server.
    tokenizer: str = ""


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """One run of `warmroute up`. Exactly one of `sim`, `endpoints` and `endpoints_file` is set."""

    sim: SimSettings | None = None
    endpoints: tuple[str, ...] = ()
    endpoints_file: Path | None = None
    #: IP address on which the gateway takes requests; admin and metrics stay on loopback.
    listen: str = "127.0.0.1"
    #: TCP ports; 0 picks a free one.
    port: int = 8080
    admin_port: int = 9901
    metrics_port: int = 9090
    #: Longest request body in bytes; longer ones get 413.
    max_body: int = 64 * 2**20
    #: Worker threads of Envoy.
    concurrency: int = 1
    #: Path of the active health check; empty: no active health checks.
    health_path: str = "/health"
    access_log: Path | None = None
    log_directory: Path | None = None
    #: Seconds to wait at start until a request passes.
    ready_timeout: float = 30.0
    picker: PickerSettings = field(default_factory=PickerSettings)
    kv_events: KvEventsOptions | None = None
    demo: bool = False
    print_json: bool = False

    def check(self) -> None:
        """Refuse what a process of the gateway would refuse after its start: the message names the flag.

        Raises:
            UsageError: the first thing that is wrong.

        """
        picker = self.picker
        _check_policy(picker.policy)
        _check_choice("--picker-host", picker.host, PICKER_HOSTS)
        if self.sim is not None:
            _check_choice("--sim-preset", self.sim.preset, SIM_PRESETS)
        if picker.policy and picker.config_file is not None:
            message = "Give only one of --policy and --config-file: a configuration names its scorers itself."
            raise UsageError(message)
        if self.health_path and not self.health_path.startswith("/"):
            message = f"--health-path {self.health_path}: expected a path that begins with /, such as /health, or '' for no checks."
            raise UsageError(message)
        picker.check()
        if self.kv_events is not None:
            self._check_kv_events(self.kv_events)
        for flag, path in (("--config-file", picker.config_file), ("--access-log", self.access_log)):
            if path is not None:
                _check_opens(flag, path, "rb" if flag == "--config-file" else "ab")

    def _check_kv_events(self, options: KvEventsOptions) -> None:
        from warmroute.local import kv_events  # noqa: PLC0415 -- costs start-up time, and only --kv-events needs it

        configured = self.picker.config_file is not None
        if self.sim is not None and options.template:
            message = "--kv-events with --sim takes no address: where the simulated servers publish is known."
            raise UsageError(message)
        if self.sim is None:
            kv_events.check_publishers(options)
        if configured and options.tokenizer:
            message = "Give only one of --tokenizer and --config-file: with a configuration its token-producer makes the token ids."
            raise UsageError(message)
        if not configured and self.sim is None and not options.tokenizer:
            message = (
                "--kv-events needs --tokenizer: the folder with the model's tokenizer.json, or the URL of a vLLM server that renders prompts, such as "
                "--tokenizer http://10.0.0.5:8000."
            )
            raise UsageError(message)
        if options.tokenizer:
            kv_events.check_tokenizer(options.tokenizer)
        if self.picker.config_file is not None:
            kv_events.check_configuration(self.picker.config_file)


def _check_choice(flag: str, given: str, choices: tuple[str, ...]) -> None:
    if given not in choices:
        message = f"{flag} {given}: expected one of {', '.join(choice for choice in choices if choice)}."
        raise UsageError(message)


def _check_policy(given: str) -> None:
    if given and given not in policies.names():
        message = f"--policy: {policies.unknown(given)}."
        raise UsageError(message)


def _check_flag(flag: str, given: str) -> None:
    try:
        parse_flags([f"{flag}={given}"])
    except FlagError as error:
        message = f"{error}."
        raise UsageError(message) from error


def _check_recording(picker: PickerSettings) -> None:
    """A picker that is started again serves without a recording rather than not at all, so what is wrong from the start is told here."""
    path = picker.record_decisions
    try:
        parse_flags(picker.recording())
    except FlagError as error:
        message = f"{error}."
        raise UsageError(message) from error
    if path is None:
        return
    if path.exists() and (not path.is_file() or path.stat().st_size):
        message = f"--record-decisions {path}: the file is in use and is left as it is; name another, or move it away."
        raise UsageError(message)
    if not path.parent.is_dir():
        message = f"--record-decisions {path}: the folder {path.parent} does not exist; make it first."
        raise UsageError(message)


def _check_opens(flag: str, path: Path, mode: str) -> None:
    try:
        path.open(mode).close()
    except OSError as error:
        message = f"{flag} {path}: {error.strerror or error}."
        raise UsageError(message) from error


def parse_size(text: str, flag: str) -> int:
    """Read a size in bytes such as `67108864`, `64Mi`, `64MiB` or `10MB`.

    Raises:
        UsageError: the text is no size, or it is zero.

    """
    match = _SIZE.fullmatch(text.strip())
    size = int(match[1]) * _FACTORS[match[2]] if match else 0
    # Envoy keeps its buffer limits in 32 bits.
    if not 0 < size < 2**32:
        message = f"{flag} {text}: expected a size between 1 byte and 4 GiB, such as 64Mi, 10MB or 1048576."
        raise UsageError(message)
    return size
