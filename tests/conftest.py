"""Settings of the whole test session."""

import os

# Before torch is imported, here and in every process that a test starts: the networks
# are tiny, and a second thread on a core that something else uses slows them a lot.
os.environ.setdefault("OMP_NUM_THREADS", "1")
