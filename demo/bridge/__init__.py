"""Where the libraries meet: a store as a catalogue, the radio as a delay model, shapes of architectures."""
