"""`warmroute replay`: policies compared over a trace in simulated time. The simulation itself is `warmroute._core.simulate`."""
