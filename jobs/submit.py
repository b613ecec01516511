"""`build_catalog` on a Ray cluster, with an exit code that can be trusted.

::

    python -m jobs.submit CONFIG.toml [--set key=value …] [--address http://127.0.0.1:8265] [--dry-run]

Submits the job with this folder as its working directory, follows its log, and then reads the published catalog itself:
neither the end of a log nor a state is proof. Everything is checked here first, so this machine must reach the same
manifest, checkpoint and output as the cluster. Run again after a lost connection, it follows the job that still runs;
after a job that was stopped, it resumes; after one that is done, it says so.

With `--dry-run`, the job is a dry run on the cluster: its summary is in its log, and its exit code is the proof.

The last line of stdout is `submission_id`, `state`, `catalog_uri`, `rows`, `failed`, `flagged`, `seconds`, as JSON; the
counts are null where no catalog was proved.

====  ===================================================================================
exit  means
====  ===================================================================================
0     the catalog is published, made from this config, and verified; or the dry run found nothing wrong
1     the job failed
2     a bad config or command: nothing was submitted, or the job itself found it bad
3     a gate failed in the job, or the published catalog does not verify
4     the job was stopped
5     the cluster does not answer any more: the job may still run
6     the job succeeded, and there is no catalog made from this config
130   interrupted (Ctrl-C) and left running
====  ===================================================================================
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
from galaxy_batch.settings import load_config
from galaxy_batch.storage.files import without_secrets
from jobs.cluster_client import LostConnectionError, Submission, connect, is_uploaded, submit_job
from jobs.command import run_job

FAILED, BAD_INPUT, GATE_FAILED, STOPPED, LOST, NO_CATALOG, LEFT_RUNNING = 1, 2, 3, 4, 5, 6, 130

logger = logging.getLogger("jobs")


class UnprovenError(GalaxyBatchError):
    """There is no catalog that could be vouched for; the exit code says why, the summary is printed all the same."""

    def __init__(self, exit_code: int, message: str, summary: dict[str, Any]) -> None:
        self.exit_code, self.summary = exit_code, summary
        super().__init__(message)


def submit(arguments: argparse.Namespace, client: JobSubmissionClient | None = None) -> dict[str, Any]:
    """Check the config, submit the job, follow it to its end, and prove the catalog.

    Args:
        arguments: `config`, `set`, `address`, `dry_run`.
        client: the cluster's job server; the one at `arguments.address` when not given.

    Raises:
        InputError: the config cannot be used, or would not arrive; nothing was submitted.
        UnprovenError: anything else that is not a verified catalog.
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
            place = (
                "dry_run_of" if arguments.dry_run else "catalog_uri"
            )  # a run never follows a dry run, or the reverse
            about = {place: without_secrets(plan.layout.catalog), "fingerprint": plan.layout.fingerprint}
            summary["submission_id"] = submit_job(client, shlex.join(command), about)
            _check_end(_follow(Submission(client, summary["submission_id"])), summary)
        else:
            logger.info("already published, nothing to submit: %s", without_secrets(plan.layout.catalog))
            summary["state"] = "ALREADY_PUBLISHED"
        if plan.published is not None or not arguments.dry_run:
            summary |= _proof(plan, summary)
    except LostConnectionError as error:
        raise UnprovenError(LOST, f"{error}. {_how_to_look(client, summary)}", summary) from error
    except KeyboardInterrupt:
        raise UnprovenError(LEFT_RUNNING, f"interrupted. {_how_to_look(client, summary)}", summary) from None
    finally:
        summary["seconds"] = round(time.monotonic() - started, 3)
    return summary


def _command(path: str, overrides: Sequence[str], config: CatalogConfig) -> list[str]:
    """The job's command: the config where it arrives, and local paths as they are from here.

    Raises:
        InputError: the config would not arrive.
    """
    here, file = Path.cwd(), Path(os.path.abspath(path))
    if not file.is_relative_to(here):
        remedy = f"the cluster gets only what is in this folder, {here}: copy the config to jobs/configs"
        raise InputError("config", path, remedy)
    if not is_uploaded(file, here):
        remedy = "is named in .gitignore or .rayignore, or in a folder that is not uploaded: the job would not see it"
        raise InputError("config", path, remedy)
    places = {
        "output_uri": config.output_uri, "checkpoint_uri": config.checkpoint_uri, "manifest.uri": config.manifest.uri,
        "reuse_from": config.reuse_from or "",
    }  # fmt: skip
    local = [f"{key}={uri}" for key, uri in places.items() if uri.startswith("/")]  # over there, "." is another folder
    words = ["python", "-m", "jobs.build_catalog", file.relative_to(here).as_posix()]
    return words + [word for override in (*overrides, *local) for word in ("--set", override)]


def _follow(submission: Submission) -> JobDetails:
    """Follow the job to its end; Ctrl-C asks whether to stop it, and is raised where it is to be left running."""
    stop = False
    while True:
        try:
            if stop:
                submission.stop()
            return submission.follow()
        except KeyboardInterrupt:
            stop = _wants_stop()
            if not stop:
                raise


def _wants_stop() -> bool:
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    print("\nStop the job? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _check_end(job: JobDetails, summary: dict[str, Any]) -> None:
    """Let only a job that succeeded pass."""
    summary["state"] = str(job.status)
    reason = (job.message or "").partition(", last available logs")[0].strip().partition("\n")[0]  # they were shown
    if job.status == JobStatus.STOPPED:
        raise UnprovenError(STOPPED, "the job was stopped. Run this again to resume it", summary)
    if job.status != JobStatus.SUCCEEDED:
        code = job.driver_exit_code if job.driver_exit_code in (BAD_INPUT, GATE_FAILED) else FAILED
        raise UnprovenError(code, f"the job failed: {reason}", summary)


def _proof(plan: ReleasePlan, summary: dict[str, Any]) -> dict[str, Any]:
    """Where the catalog is and its counts, once it is seen to be there, made from this config, and verified."""
    catalog = plan.layout.catalog
    shown = without_secrets(catalog)
    try:
        manifest = read_manifest(catalog)
    except InputError as error:
        raise UnprovenError(GATE_FAILED, str(error), summary) from None
    if manifest is None:
        remedy = "see that output_uri is a place that every node and this machine share"
        raise UnprovenError(NO_CATALOG, f"the job succeeded, and no catalog is at {shown}: {remedy}", summary)
    for name, wanted in {"release": plan.config.release, "fingerprint": plan.layout.fingerprint}.items():
        if getattr(manifest, name) != wanted:
            found = f"it has {name} {getattr(manifest, name)}, not {wanted}"
            raise UnprovenError(NO_CATALOG, f"the catalog at {shown} is not made from this config: {found}", summary)
    problems = verify_catalog(catalog)
    if problems:
        raise UnprovenError(GATE_FAILED, f"the catalog at {shown} does not verify: {'; '.join(problems[:5])}", summary)
    return {"catalog_uri": shown, **{name: getattr(manifest, name) for name in ("rows", "failed", "flagged")}}


def _how_to_look(client: JobSubmissionClient, summary: dict[str, Any]) -> str:
    """What to do about a job that may still run."""
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
    """Run the job as a command; its exit code."""
    options = {"address": "URL of the cluster's dashboard; RAY_API_SERVER_ADDRESS or RAY_ADDRESS when not given"}
    try:
        about = "Run build_catalog on a Ray cluster, and prove its catalog."
        flags = {"dry-run": "check all that the run needs, from within the cluster; nothing is written"}
        return run_job(about, submit, options=options, flags=flags)
    except UnprovenError as error:
        logger.error("%s", error)
        print(json.dumps(error.summary), flush=True)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
