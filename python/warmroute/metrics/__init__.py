"""The picker's metrics page and debug pages, over the engine's own counters."""
