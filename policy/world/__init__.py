"""What happens to everybody alike: motion, requests, devices, traces, the cheap radio, catalogues made up."""
