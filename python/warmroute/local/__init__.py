"""`warmroute up`: the gateway on one machine (Envoy's bootstrap, a simulated pool, supervision of the processes)."""
