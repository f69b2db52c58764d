"""Short programs to read and run: `python -m radio.examples.NAME`. The tests run each of them."""
