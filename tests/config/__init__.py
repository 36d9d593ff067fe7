"""The configuration corpus."""
