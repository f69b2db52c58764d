"""Where the libraries meet: a store as a catalog, the radio as a delay model, shapes of architectures."""
