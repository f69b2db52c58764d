"""Short programs to read and run: `python -m demo.examples.NAME`. The tests run each of them."""
