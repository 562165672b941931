"""`python -m minigpt_repl` is `minigpt-repl`."""

import sys

from minigpt_repl.cli import main

sys.exit(main())
