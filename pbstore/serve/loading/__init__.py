"""Where people load models: a filesystem for fsspec, and a resolver of adapters for vLLM."""
