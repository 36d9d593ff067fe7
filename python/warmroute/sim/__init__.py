"""A simulated model server: the HTTP and metrics face of an inference engine over a discrete-step model of one."""
