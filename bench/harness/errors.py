"""What can go wrong in a bench."""


class BenchError(Exception):
    """A measurement could not be made; the message says what to do."""
