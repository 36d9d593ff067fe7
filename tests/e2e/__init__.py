"""Tests of the gateway as a whole, through real Envoy."""
