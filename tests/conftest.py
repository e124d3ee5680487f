"""What holds for all tests."""

import os

# Read by the OpenMP library when torch is loaded. Threads that spin while they wait make torch ten times slower as soon as another
# process, such as a second test worker, wants the core; the engine gives its children the same setting.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
