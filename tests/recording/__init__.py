"""Recording decisions, and asking them again."""
