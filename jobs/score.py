"""The score stage as a plain Ray job.

ray job submit --working-dir . -- python jobs/score.py jobs/flights.yaml
"""

import sys

from raymlops.cli import app

if __name__ == "__main__":
    app(["score", *sys.argv[1:]])
