"""What happens to everybody alike: motion, requests, devices, traces, the cheap radio, catalogs made up."""
