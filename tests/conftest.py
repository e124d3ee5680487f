"""What holds for all tests."""

import os

# The OpenMP library reads it when torch is loaded. Threads that spin while they wait slow torch down badly as soon as another
# process, such as a second test worker, wants the core; the engine gives its children the same setting.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
