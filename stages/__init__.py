"""The study: each module at this level is one stage of dvc.yaml, of the same name; the packages hold what they share."""

import os

# Before any library is loaded, as each reads these once; what the user has set stands.
BARS = "HF_HUB_DISABLE_PROGRESS_BARS"
BARS_UNSAID = BARS not in os.environ
os.environ.setdefault(BARS, "1")  # bars are the stages' own: those of libraries are hidden
os.environ.setdefault("TQDM_DISABLE", "1")  # where nothing else is said, as the stages do of theirs
if "OMP_WAIT_POLICY" not in os.environ:
    # Threads that wait for each other spin. Where another process wants a core, long spinning makes every pass wait for it (docs/speed.md).
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
