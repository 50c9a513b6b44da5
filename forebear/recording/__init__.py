"""Recording: hash what a stage declares, run it, hash what it wrote, sign one link."""
