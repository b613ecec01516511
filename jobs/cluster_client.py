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

from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]
from ray.exceptions import AuthenticationError, RayError
from ray.job_submission import JobDetails, JobSubmissionClient
from requests import RequestException

from galaxy_batch.errors import GalaxyBatchError, InputError
from galaxy_batch.storage.files import without_secrets
from jobs.upload import NOT_UPLOADED, check_upload_size, too_large

__all__ = ["LostConnectionError", "Submission", "UnknownJobError", "connect", "submit_job"]

logger = logging.getLogger("jobs")

_ADDRESS = "RAY_API_SERVER_ADDRESS"
_AUTH_MODE = "RAY_AUTH_MODE"
_REQUEST_TIMEOUT_S = 30.0  # Ray's own client has no time limit
_LOG_TIMEOUT_S = 60.0  # without a new line for this long, the log is requested again: the connection may be dead
_MAX_WAIT_S = 30.0  # between two attempts to reconnect
_UNKNOWN_S = 15.0  # a job that the cluster does not know for this long has not arrived, or is forgotten


class LostConnectionError(GalaxyBatchError):
    """The cluster does not respond; the job may still run."""


class UnknownJobError(GalaxyBatchError):
    """The cluster responds, and does not know the job."""


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
    logging.getLogger("ray").setLevel(logging.WARNING)  # not the names of the packages that it uploads
    try:
        return _authenticated_client(url)
    except AuthenticationError:
        raise InputError("--address", without_secrets(url), _token_remedy()) from None
    except _connection_errors() as error:
        raise InputError("--address", without_secrets(url), f"no Ray cluster responds: {error}") from None
    except KeyError:
        raise InputError("--address", without_secrets(url), "the server there is not a Ray cluster") from None


def _authenticated_client(url: str) -> JobSubmissionClient:
    """Ray's client; it sends this machine's token only to a cluster that requires one."""
    try:
        return _Client(url)
    except AuthenticationError:
        # `ray start` uses the token of its machine without being asked; Ray's client does not.
        if _AUTH_MODE in os.environ or not _has_token():
            raise
        os.environ[_AUTH_MODE] = "token"
        Config.initialize("")  # Ray has read the variable before
        return _Client(url)


def _has_token() -> bool:
    try:
        return bool(AuthenticationTokenLoader.instance().has_token(ignore_auth_mode=True))
    except (AuthenticationError, RuntimeError):  # such as RAY_AUTH_TOKEN_PATH without a file
        return False


def _token_remedy() -> str:
    """What is missing for a cluster that has rejected a request."""
    if os.environ.get(_AUTH_MODE, "token") != "token":
        return f"the cluster requires a token, but {_AUTH_MODE} is {os.environ[_AUTH_MODE]}: unset it"
    source = next(
        (name for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH") if os.environ.get(name)), "~/.ray/auth_token"
    )
    if _has_token():
        return f"the cluster has another token than {source}: `ray get-auth-token` on its head prints the right one"
    if source == "RAY_AUTH_TOKEN_PATH":
        return f"the cluster requires a token, and the file that {source} names cannot be read"
    return "the cluster requires a token: set RAY_AUTH_TOKEN to what `ray get-auth-token` prints on its head"


def submit_job(client: JobSubmissionClient, entrypoint: str, metadata: Mapping[str, str]) -> str:
    """Submit a command with this folder as its working directory, and return its submission id.

    If an unfinished job with the same metadata exists, its id is returned and nothing is submitted.

    Raises:
        InputError: this folder is too large to upload, or the cluster rejects the job.
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
    folder = Path.cwd()
    check_upload_size(folder)
    submission_id = f"galaxy-batch-{uuid.uuid4().hex[:12]}"  # known here even if the response is lost
    runtime_env = {"working_dir": ".", "excludes": NOT_UPLOADED}
    try:
        client.submit_job(
            entrypoint=entrypoint, submission_id=submission_id, runtime_env=runtime_env, metadata=dict(metadata)
        )
    except RequestException as error:
        logger.warning("no response to the submission of %s, which may have arrived: %s", submission_id, error)
    except RuntimeError as error:
        if "status code 413" in str(error):
            raise too_large(folder, "the cluster, or a proxy before it, accepts less") from None
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
            UnknownJobError: the cluster does not know the job.
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
        unknown_since: float | None = None
        while True:
            try:
                job = await asyncio.to_thread(self.client.get_job_info, self.id)
            except _connection_errors() as error:
                now = time.monotonic()
                unknown_since = (unknown_since or now) if f"Job {self.id} does not exist" in str(error) else None
                if unknown_since is not None and now - unknown_since > min(_UNKNOWN_S, self._patience_s):
                    cause = "it was restarted" if state else "the submission did not arrive"
                    message = f"the cluster does not know job {self.id}: {cause}. Run this again to submit it"
                    raise UnknownJobError(message) from None
                if now - last_response > self._patience_s:
                    message = f"no response about job {self.id} for {now - last_response:.0f} s: {error}"
                    raise LostConnectionError(message) from error
                logger.warning("no response about job %s, trying again: %s", self.id, error)
                wait_s = min(2 * wait_s, max(_MAX_WAIT_S, self._poll_s))
            else:
                last_response, wait_s, unknown_since = time.monotonic(), self._poll_s, None
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
    from aiohttp import ClientError

    return OSError, RuntimeError, RayError, ClientError
