"""One command line job per module: `python -m jobs.<job> CONFIG.toml [--set key=value …]`."""

import os

# Ray reads these variables when it is imported, so they are set before any job imports it.
# Under `uv run`, Ray by default uploads this folder and builds a new environment for each worker.
os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
# Ray Train by default moves each worker to an empty folder, where relative paths are not valid.
os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")
# Without a dashboard, Ray Train warns about it once a second.
os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", "Failed to query Ray Train Controller actor state")
