"""The picker as a process and its parts: flags, configuration, discovery, TLS, health, metrics, drain."""
