"""What serves the protocol: the native host, the grpcio host, TLS, health, and the picker's life cycle."""
