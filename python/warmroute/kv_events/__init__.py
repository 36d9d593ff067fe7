"""KV events: what each model server tells about its cache, from its ZMQ sockets into the engine's exact prefix index."""
