"""Configuration of the picker: flags, the EndpointPickerConfig file, and what the engine is told."""
