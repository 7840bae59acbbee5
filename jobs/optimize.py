"""The optimize stage as a plain Ray job.

ray job submit --working-dir . -- python jobs/optimize.py jobs/flights.yaml
"""

import sys

from raymlops.cli import app

if __name__ == "__main__":
    app(["optimize", *sys.argv[1:]])
