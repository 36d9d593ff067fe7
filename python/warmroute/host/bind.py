"""Binding a grpc.aio server."""

import grpc
import grpc.aio

from warmroute.host.address import UNIX, ListenError, join_address, split_address


def bind(server: grpc.aio.Server, address: str, flag: str, credentials: grpc.ServerCredentials | None = None) -> str:
    """Bind a server and return its address with the real port. Raises ListenError."""
    try:
        port = server.add_insecure_port(address) if credentials is None else server.add_secure_port(address, credentials)
    except RuntimeError as error:
        raise ListenError(address, flag, "the address is in use or not available") from error
    if address.startswith(UNIX):
        return address
    host, _ = split_address(address)
    return join_address(host, port)
