"""Rivals of `radio.solve_broadcast`, each in our reading and tuned as well as we could; for the benchmark."""
