"""The policies under real load: simulated model servers behind a real Envoy, clients that stream. `run.py` is the command."""
