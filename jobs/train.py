"""The train stage as a plain Ray job.

ray job submit --working-dir . -- python jobs/train.py jobs/flights.yaml
"""

import sys

from raymlops.cli import app

if __name__ == "__main__":
    app(["train", *sys.argv[1:]])
