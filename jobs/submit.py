"""Run `build_catalog` on a Ray cluster, follow its log, and verify the published catalog.

Checks the config on this machine first, which therefore needs access to the same manifest, checkpoint and output as the
cluster. The same command again follows a job that still runs, and resumes one that was stopped.

Example:
    python -m jobs.submit jobs/configs/sdss_dr7.toml --address http://127.0.0.1:8265 --dry-run

Exit codes:
    0    the catalog is published and verified, or the dry run succeeded
    1    the job failed
    2    bad config or command; nothing was submitted, or the job itself rejected it
    3    a gate failed, or the published catalog does not verify
    4    the job was stopped
    5    the cluster no longer responds; the job may still run
    6    the job succeeded, but there is no catalog made from this config
    130  interrupted (Ctrl-C); the job goes on
"""

import argparse
import json
import logging
import os
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ray.job_submission import JobDetails, JobStatus, JobSubmissionClient

from galaxy_batch.catalog.manifest import read_manifest
from galaxy_batch.catalog.verify import verify_catalog
from galaxy_batch.config import CatalogConfig
from galaxy_batch.errors import GalaxyBatchError, InputError
from galaxy_batch.plan import ReleasePlan, plan_release
from galaxy_batch.settings import Unset, load_config
from galaxy_batch.storage.files import without_secrets
from jobs.arguments import CommandLine
from jobs.cluster_client import LostConnectionError, Submission, UnknownJobError, connect, submit_job
from jobs.command import run_job
from jobs.upload import is_uploaded

FAILED, BAD_INPUT, GATE_FAILED, STOPPED, LOST, NO_CATALOG, LEFT_RUNNING = 1, 2, 3, 4, 5, 6, 130

logger = logging.getLogger("jobs")


class UnverifiedError(GalaxyBatchError):
    """There is no verified catalog; the exit code tells why, and the summary is still printed."""

    def __init__(self, exit_code: int, message: str, summary: dict[str, Any]) -> None:
        self.exit_code, self.summary = exit_code, summary
        super().__init__(message)


def submit(arguments: argparse.Namespace, client: JobSubmissionClient | None = None) -> dict[str, Any]:
    """Check the config, submit the job, follow it to its end, and verify the catalog.

    The summary has `submission_id`, `state`, `catalog_uri`, `rows`, `failed`, `flagged` and `seconds`, null where
    unknown.

    Args:
        arguments: `config`, `set`, `address`, `dry_run`.
        client: client of the cluster's job server. When not given, of the one at `arguments.address`.

    Raises:
        InputError: the config cannot be used or would not be uploaded; nothing was submitted.
        UnverifiedError: there is no verified catalog, for any other reason.
    """
    started = time.monotonic()
    config = load_config(CatalogConfig, arguments.config, arguments.set)
    command = _command(arguments.config, arguments.set, config) + ["--dry-run"] * arguments.dry_run
    client = client or connect(arguments.address)
    keys = ("submission_id", "state", "catalog_uri", "rows", "failed", "flagged", "seconds")
    summary: dict[str, Any] = dict.fromkeys(keys)
    try:
        plan = plan_release(config)
        if plan.published is None:
            key = "dry_run_of" if arguments.dry_run else "catalog_uri"  # keeps runs and dry runs of a catalog apart
            metadata = {key: without_secrets(plan.layout.catalog), "fingerprint": plan.layout.fingerprint}
            summary["submission_id"] = submit_job(client, shlex.join(command), metadata)
            _check_end(_follow(Submission(client, summary["submission_id"])), summary)
        else:
            logger.info("already published, nothing to submit: %s", without_secrets(plan.layout.catalog))
            summary["state"] = "ALREADY_PUBLISHED"
        if plan.published is not None or not arguments.dry_run:
            summary |= _verified_counts(plan, summary)
    except LostConnectionError as error:
        raise UnverifiedError(LOST, f"{error}. {_next_steps(client, summary)}", summary) from error
    except UnknownJobError as error:
        raise UnverifiedError(FAILED, str(error), summary) from None
    except KeyboardInterrupt:
        raise UnverifiedError(LEFT_RUNNING, f"interrupted. {_next_steps(client, summary)}", summary) from None
    finally:
        summary["seconds"] = round(time.monotonic() - started, 3)
    return summary


def _command(path: str, overrides: Sequence[str], config: CatalogConfig) -> list[str]:
    """The job's command, with the config relative to the uploaded folder and local paths made absolute.

    Raises:
        InputError: the config would not be uploaded.
    """
    here, file = Path.cwd(), Path(os.path.abspath(path))
    if not file.is_relative_to(here):
        remedy = f"only files in this folder are uploaded, {here}: copy the config to jobs/configs"
        raise InputError("config", path, remedy)
    if not is_uploaded(file, here):
        remedy = "is excluded by .gitignore or .rayignore, or in a folder that is not uploaded"
        raise InputError("config", path, remedy)
    uris = {
        "output_uri": config.output_uri, "checkpoint_uri": config.checkpoint_uri, "manifest.uri": config.manifest.uri,
        "reuse_from": config.reuse_from or "",
    }  # fmt: skip
    local = [
        f"{key}={uri}" for key, uri in uris.items() if uri.startswith("/")
    ]  # the job has another working directory
    words = ["python", "-m", "jobs.build_catalog", file.relative_to(here).as_posix()]
    given = [("--unset" if isinstance(override, Unset) else "--set", override) for override in (*overrides, *local)]
    return words + [word for pair in given for word in pair]


def _follow(submission: Submission) -> JobDetails:
    """Follow the job to its end. Ctrl-C asks whether to stop it; KeyboardInterrupt is raised if it shall go on."""
    stop = False
    while True:
        try:
            if stop:
                submission.stop()
            return submission.follow()
        except KeyboardInterrupt:
            stop = _confirm_stop()
            if not stop:
                raise


def _confirm_stop() -> bool:
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    print("\nStop the job? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _check_end(job: JobDetails, summary: dict[str, Any]) -> None:
    """Raise UnverifiedError unless the job succeeded."""
    summary["state"] = str(job.status)
    reason = (job.message or "").partition(", last available logs")[0].strip().partition("\n")[0]  # the log was shown
    if job.status == JobStatus.STOPPED:
        raise UnverifiedError(STOPPED, "the job was stopped. Run this again to resume it", summary)
    if job.status != JobStatus.SUCCEEDED:
        code = job.driver_exit_code if job.driver_exit_code in (BAD_INPUT, GATE_FAILED) else FAILED
        raise UnverifiedError(code, f"the job failed: {reason}", summary)


def _verified_counts(plan: ReleasePlan, summary: dict[str, Any]) -> dict[str, Any]:
    """URI and counts of the published catalog.

    Raises:
        UnverifiedError: there is none, it was made from another config, or it has problems.
    """
    catalog = plan.layout.catalog
    shown = without_secrets(catalog)
    try:
        manifest = read_manifest(catalog)
    except InputError as error:
        raise UnverifiedError(GATE_FAILED, str(error), summary) from None
    if manifest is None:
        remedy = "output_uri must be readable from every node and from this machine"
        raise UnverifiedError(NO_CATALOG, f"the job succeeded, but there is no catalog at {shown}: {remedy}", summary)
    for name, wanted in {"release": plan.config.release, "fingerprint": plan.layout.fingerprint}.items():
        if getattr(manifest, name) != wanted:
            message = (
                f"the catalog at {shown} was made from another config: {name} {getattr(manifest, name)}, not {wanted}"
            )
            raise UnverifiedError(NO_CATALOG, message, summary)
    problems = verify_catalog(catalog)
    if problems:
        raise UnverifiedError(
            GATE_FAILED, f"the catalog at {shown} does not verify: {'; '.join(problems[:5])}", summary
        )
    return {"catalog_uri": shown, **{name: getattr(manifest, name) for name in ("rows", "failed", "flagged")}}


def _next_steps(client: JobSubmissionClient, summary: dict[str, Any]) -> str:
    """Commands for a job that may still run."""
    where = f"--address {without_secrets(client.get_address())}"
    job = summary["submission_id"]
    if summary["state"]:
        return "The job had ended"
    if job is None:
        return f"`ray job list {where}` shows whether a job was submitted"
    return (
        f"The job may still run: `ray job logs --follow {where} {job}` shows its log, `ray job stop {where} {job}` "
        "stops it, and this command, run again, follows it"
    )


def main() -> int:
    """Run the command and return its exit code."""
    options = {"address": "URL of the cluster's dashboard; default: RAY_API_SERVER_ADDRESS or RAY_ADDRESS"}
    flags = {"dry-run": "check the inputs and classify a sample on the cluster, without writing anything"}
    try:
        return run_job(CommandLine(__doc__, CatalogConfig, options=options, flags=flags), submit)
    except UnverifiedError as error:
        logger.error("%s", error)
        print(json.dumps(error.summary), flush=True)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
