"""The serve stage as a plain Ray job.

ray job submit --working-dir . -- python jobs/serve.py jobs/flights.yaml
"""

import sys

from raymlops.cli import app

if __name__ == "__main__":
    app(["serve", *sys.argv[1:]])
