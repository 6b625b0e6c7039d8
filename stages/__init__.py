"""The study: each module `stages.<name>` with a `main` is one stage of dvc.yaml, the packages hold what they share."""

import os

if not os.isatty(2):
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # libraries' bars only where someone watches
