"""The questions that papers of the field ask, each a small description, answered by `pbcast experiment`."""
