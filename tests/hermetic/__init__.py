"""The reference's hermetic ext_proc suite, against both hosts over real gRPC."""
