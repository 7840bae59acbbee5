"""The monitor stage as a plain Ray job.

ray job submit --working-dir . -- python jobs/monitor.py jobs/flights.yaml
"""

import sys

from raymlops.cli import app

if __name__ == "__main__":
    app(["monitor", *sys.argv[1:]])
