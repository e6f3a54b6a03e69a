"""What is measured of each implementation, in its own calls; ``reference`` shows what such a module has."""
