"""Every body mode of ext_proc through a real Envoy, with both hosts."""
