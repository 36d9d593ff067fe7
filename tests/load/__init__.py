"""Load for ten seconds: no error, nothing left behind."""
