"""Submit a job to a Ray cluster, follow it across dropped connections, and stop it.

A log stream may end before the job does. The log is therefore only shown; the state comes from the job server.
"""

import asyncio
import contextlib
import logging
import os
import sys
import time
import uuid
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ray._private.runtime_env.packaging import _get_excludes, get_excludes_from_ignore_files
from ray.exceptions import AuthenticationError, RayError
from ray.job_submission import JobDetails, JobSubmissionClient
from requests import RequestException

from galaxy_batch.errors import GalaxyBatchError, InputError
from galaxy_batch.storage.files import without_secrets

__all__ = ["LostConnectionError", "Submission", "connect", "is_uploaded", "submit_job"]

logger = logging.getLogger("jobs")

_ADDRESS = "RAY_API_SERVER_ADDRESS"
_REQUEST_TIMEOUT_S = 30.0  # Ray's own client has no time limit
_LOG_TIMEOUT_S = 60.0  # without a new line for this long, the log is requested again: the connection may be dead
_MAX_WAIT_S = 30.0  # between two attempts to reconnect
_NOT_UPLOADED = ["/.git/", "/.venv/", "/tests/", "/cluster/"]  # in addition to .gitignore and .rayignore


class LostConnectionError(GalaxyBatchError):
    """The cluster does not respond; the job may still run."""


class _Client(JobSubmissionClient):  # type: ignore[misc]
    """Ray's client with a time limit for each request."""

    def _do_request(self, *args: Any, **kwargs: Any) -> Any:
        return super()._do_request(*args, **{"timeout": _REQUEST_TIMEOUT_S, **kwargs})


def connect(address: str | None) -> JobSubmissionClient:
    """Connect to the job server at `address`, or else at `RAY_API_SERVER_ADDRESS` or `RAY_ADDRESS`.

    Raises:
        InputError: no URL is given, no Ray cluster responds there, or `ray[default]` is not installed here.
    """
    url = address or os.environ.get(_ADDRESS) or os.environ.get("RAY_ADDRESS")
    if url is None or not url.startswith(("http://", "https://")):
        remedy = f"give the URL of the cluster's dashboard, such as http://127.0.0.1:8265, here or in {_ADDRESS}"
        raise InputError("--address", url, remedy)
    if JobDetails is None or find_spec("aiohttp") is None:
        raise InputError("ray", "installed without its job server", "install ray[default] of the same version")
    os.environ[_ADDRESS] = url  # Ray prefers the environment to the argument
    try:
        return _Client(url)
    except AuthenticationError:
        remedy = "the cluster requires a token: set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH"
        raise InputError("--address", without_secrets(url), remedy) from None
    except _connection_errors() as error:
        raise InputError("--address", without_secrets(url), f"no Ray cluster responds: {error}") from None
    except KeyError:
        raise InputError("--address", without_secrets(url), "the server there is not a Ray cluster") from None


def is_uploaded(file: Path, folder: Path) -> bool:
    """Whether Ray uploads a file of the working directory `folder` to the cluster.

    Ray excludes what a `.gitignore` or `.rayignore` in `folder` or below names, even if git tracks it.
    """
    honours_git = os.environ.get("RAY_RUNTIME_ENV_IGNORE_GITIGNORE") != "1"
    rules = [_get_excludes(folder, _NOT_UPLOADED)]
    for path in (folder, *reversed(file.relative_to(folder).parents[:-1]), file.relative_to(folder)):
        place = folder / path
        rules += get_excludes_from_ignore_files(place, include_gitignore=honours_git)
        if any(rule(place) for rule in rules):
            return False
    return True


def submit_job(client: JobSubmissionClient, entrypoint: str, metadata: Mapping[str, str]) -> str:
    """Submit a command with this folder as its working directory, and return its submission id.

    If an unfinished job with the same metadata exists, its id is returned and nothing is submitted.

    Raises:
        InputError: the cluster rejects the job.
        LostConnectionError: the cluster does not respond; nothing was submitted.
    """
    try:
        jobs = client.list_jobs()
    except _connection_errors() as error:
        raise LostConnectionError(f"no response; nothing was submitted: {error}") from error
    for job in jobs:
        if job.submission_id and not job.status.is_terminal() and metadata.items() <= (job.metadata or {}).items():
            logger.info("job %s does the same: following it", job.submission_id)
            return str(job.submission_id)
    submission_id = f"galaxy-batch-{uuid.uuid4().hex[:12]}"  # known here even if the response is lost
    runtime_env = {"working_dir": ".", "excludes": _NOT_UPLOADED}
    try:
        client.submit_job(
            entrypoint=entrypoint, submission_id=submission_id, runtime_env=runtime_env, metadata=dict(metadata)
        )
    except RequestException as error:
        logger.warning("no response to the submission of %s, which may have arrived: %s", submission_id, error)
    except RuntimeError as error:
        raise InputError("job", entrypoint, f"rejected by the cluster: {error}") from None
    return submission_id


class Submission:
    """A submitted job."""

    def __init__(
        self, client: JobSubmissionClient, submission_id: str, patience_s: float = 600.0, poll_s: float = 2.0
    ) -> None:
        """Send no request yet.

        Args:
            client: from `connect`.
            submission_id: from `submit_job`.
            patience_s: time without a response after which the connection is considered lost.
            poll_s: time between two requests for the state; up to 30 s while the cluster does not respond.
        """
        self.client, self.id = client, submission_id
        self._patience_s, self._poll_s = patience_s, poll_s
        self._shown = 0  # characters of the log

    def follow(self) -> JobDetails:
        """Show the job's log on stderr until the job ends, and return its final details.

        Raises:
            LostConnectionError: no response for `patience_s`.
        """
        return asyncio.run(self._follow())

    def stop(self) -> None:
        """Stop the job.

        Raises:
            LostConnectionError: the request failed.
        """
        try:
            self.client.stop_job(self.id)
        except _connection_errors() as error:
            raise LostConnectionError(f"job {self.id} could not be stopped: {error}") from error

    async def _follow(self) -> JobDetails:
        tail = asyncio.create_task(self._tail())
        try:
            details = await self._final_details()
        finally:
            tail.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await tail
        try:
            self._show(await asyncio.to_thread(self.client.get_job_logs, self.id), 0)
        except _connection_errors() as error:
            logger.warning("the end of the job's log is not available: %s", error)
        return details

    async def _final_details(self) -> JobDetails:
        """Poll the job's state until the job has ended."""
        last_response, wait_s, state = time.monotonic(), self._poll_s, None
        while True:
            try:
                job = await asyncio.to_thread(self.client.get_job_info, self.id)
            except _connection_errors() as error:
                silent_s = time.monotonic() - last_response
                if silent_s > self._patience_s:
                    message = f"no response about job {self.id} for {silent_s:.0f} s: {error}"
                    raise LostConnectionError(message) from error
                logger.warning("no response about job %s, trying again: %s", self.id, error)
                wait_s = min(2 * wait_s, max(_MAX_WAIT_S, self._poll_s))
            else:
                last_response, wait_s = time.monotonic(), self._poll_s
                if job.status != state:
                    logger.info("job %s: %s", self.id, job.status)
                    state = job.status
                if job.status.is_terminal():
                    return job
            await asyncio.sleep(wait_s)

    async def _tail(self) -> None:
        """Show the log as it grows. Each connection sends the whole log from its beginning."""
        wait_s = self._poll_s
        while True:
            position = 0
            try:
                log = self.client.tail_job_logs(self.id)
                while True:
                    async with asyncio.timeout(_LOG_TIMEOUT_S):
                        text = await anext(log, None)
                    if text is None:
                        break
                    if self._show(text, position):
                        wait_s = self._poll_s
                    position += len(text)
            except _connection_errors() as error:
                logger.debug("the log stream ended: %s", error)
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, max(_MAX_WAIT_S, self._poll_s))

    def _show(self, text: str, position: int) -> bool:
        """Write the part of a piece of the log, at `position`, that is not shown yet; return whether there was any."""
        new = text[max(0, self._shown - position) :]
        self._shown += len(new)
        sys.stderr.write(new)
        sys.stderr.flush()
        return bool(new)


def _connection_errors() -> tuple[type[Exception], ...]:
    """Exceptions of a failed connection. Those of requests are OSErrors; Ray raises RuntimeError for a bad response."""
    from aiohttp import ClientError  # noqa: PLC0415 - only with ray[default], which connect() checks

    return OSError, RuntimeError, RayError, ClientError
