"""What the benches are made of: command lines, child processes, one module per section of measurements, the page."""
