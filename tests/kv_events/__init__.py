"""Tests of the sockets that receive KV events."""
