"""The commands: `python -m jobs.<job> CONFIG.toml [--set key=value …]`, each one thin module."""

import os

# Ray reads these when it is imported, so they stand here, before any job imports it. Under `uv run`, Ray
# would by default upload this folder and build an environment anew for every worker.
os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
# Ray Train would move each worker to an empty folder, where relative paths lead nowhere.
os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")
# Once a second, Ray Train asks the dashboard whether its own controller lives, and warns where there is no dashboard.
os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", "Failed to query Ray Train Controller actor state")
