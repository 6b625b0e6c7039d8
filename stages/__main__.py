"""`python -m stages COMMAND`; see `stages.commands`."""

import sys

from stages.commands.main import main

if __name__ == "__main__":
    sys.exit(main())
