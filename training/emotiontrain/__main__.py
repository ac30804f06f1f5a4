"""`python -m emotiontrain`."""

import sys

from emotiontrain.cli import main

sys.exit(main())
