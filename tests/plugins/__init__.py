"""Plugins written in Python: the decorators, the call from each host, what can go wrong in it, the tutorial."""
