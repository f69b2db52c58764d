"""Short programs to read and run: `python -m pbstore.examples.NAME`. The tests run each of them."""
