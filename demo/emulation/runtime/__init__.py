"""Ways to run the roles: threads of one process, processes, Ray actors. The wire is the same in all."""
