"""What can go wrong while the local gateway starts or runs, as values; the command line renders them once."""


class GatewayError(Exception):
    """The gateway cannot start or go on. The text is one paragraph that says what to do."""

    exit_code = 1


class UsageError(GatewayError):
    """The command line, or a file that it names, asks for something impossible."""

    exit_code = 2


class PortInUseError(GatewayError):
    """Another process listens on a port that the gateway was told to use."""

    def __init__(self, port: int, host: str, purpose: str, flag: str) -> None:
        """Name the port, what it was wanted for, and the flag that changes it."""
        super().__init__(
            f"Port {port} on {host}, wanted for {purpose}, is already in use. Choose another one with {flag} PORT ({flag} 0 picks a free one), or stop the process that listens there.",
        )
        self.port = port


class ChildDiedError(GatewayError):
    """A process of the gateway ended although nobody asked it to."""

    def __init__(self, name: str, status: str, tail: list[str], log: str) -> None:
        """Say which process ended, how, its last lines, and where its whole log is."""
        lines = "\n".join(f"  | {line}" for line in tail) or "  | (it printed nothing)"
        super().__init__(f"The {name} {status}, so the gateway stops. Its last lines (the whole log: {log}):\n{lines}")
        self.name = name
        self.tail = tail
