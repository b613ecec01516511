"""One job on a Ray cluster: submitted, followed across dropped connections, stopped.

A log stream may end early, and says nothing about the job. So the log is only shown, and what became of the job is what
the cluster answers when it is asked.
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
_ANSWER_S = 30.0  # a request that takes longer is lost: Ray's own client waits for ever
_SILENCE_S = 60.0  # a log without a word for so long is asked for again: the connection may be dead at the other end
_LONGEST_WAIT_S = 30.0  # between two tries to reconnect
_NOT_UPLOADED = ["/.git/", "/.venv/", "/tests/", "/cluster/"]  # beside what .gitignore and .rayignore name


class LostConnectionError(GalaxyBatchError):
    """The cluster has not answered for too long; the job may still run."""


class _Client(JobSubmissionClient):  # type: ignore[misc]
    """Ray's client, with a limit to how long it waits for an answer."""

    def _do_request(self, *args: Any, **kwargs: Any) -> Any:
        return super()._do_request(*args, **{"timeout": _ANSWER_S, **kwargs})


def connect(address: str | None) -> JobSubmissionClient:
    """The job server of a cluster: at `address`, or where `RAY_API_SERVER_ADDRESS` or `RAY_ADDRESS` says.

    Raises:
        InputError: no URL is given, nothing answers there, or Ray's job server was not installed with Ray.
    """
    url = address or os.environ.get(_ADDRESS) or os.environ.get("RAY_ADDRESS")
    if url is None or not url.startswith(("http://", "https://")):
        remedy = f"give the URL of the cluster's dashboard, such as http://127.0.0.1:8265, here or in {_ADDRESS}"
        raise InputError("--address", url, remedy)
    if JobDetails is None or find_spec("aiohttp") is None:
        raise InputError("ray", "installed without its job server", "install ray[default], in the same version")
    os.environ[_ADDRESS] = url  # to Ray, the environment counts more than an argument
    try:
        return _Client(url)
    except AuthenticationError:
        remedy = "the cluster asks for a token: set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH"
        raise InputError("--address", without_secrets(url), remedy) from None
    except _drops() as error:
        raise InputError("--address", without_secrets(url), f"no Ray cluster answers: {error}") from None
    except KeyError:
        raise InputError("--address", without_secrets(url), "no Ray cluster answers, but another server") from None


def is_uploaded(file: Path, folder: Path) -> bool:
    """Whether a file below the working directory arrives on the cluster.

    Ray leaves out what a `.gitignore` or `.rayignore` names, from the working directory down, even where git itself
    tracks it.
    """
    honours_git = os.environ.get("RAY_RUNTIME_ENV_IGNORE_GITIGNORE") != "1"
    rules = [_get_excludes(folder, _NOT_UPLOADED)]
    for path in (folder, *reversed(file.relative_to(folder).parents[:-1]), file.relative_to(folder)):
        place = folder / path
        rules += get_excludes_from_ignore_files(place, include_gitignore=honours_git)
        if any(rule(place) for rule in rules):
            return False
    return True


def submit_job(client: JobSubmissionClient, entrypoint: str, about: Mapping[str, str]) -> str:
    """Submit a command with this folder as its working directory; give its submission id.

    A job about the same that has not ended is not submitted twice: its id is given, so that it can be followed again.

    Raises:
        InputError: the cluster does not take the job.
        LostConnectionError: it does not answer, and nothing was submitted.
    """
    try:
        jobs = client.list_jobs()
    except _drops() as error:
        raise LostConnectionError(f"no answer any more, and nothing was submitted: {error}") from error
    for job in jobs:
        if job.submission_id and not job.status.is_terminal() and about.items() <= (job.metadata or {}).items():
            logger.info("job %s already does this: following it", job.submission_id)
            return str(job.submission_id)
    submission_id = f"galaxy-batch-{uuid.uuid4().hex[:12]}"  # ours, so that it is known even if no answer comes
    runtime_env = {"working_dir": ".", "excludes": _NOT_UPLOADED}
    try:
        client.submit_job(
            entrypoint=entrypoint, submission_id=submission_id, runtime_env=runtime_env, metadata=dict(about)
        )
    except RequestException as error:
        logger.warning("no answer to the submission of %s, which may have arrived: %s", submission_id, error)
    except RuntimeError as error:
        raise InputError("job", entrypoint, f"the cluster does not take it: {error}") from None
    return submission_id


class Submission:
    """A submitted job."""

    def __init__(
        self, client: JobSubmissionClient, submission_id: str, patience_s: float = 600.0, poll_s: float = 2.0
    ) -> None:
        """Nothing is asked yet.

        Args:
            client: the cluster's job server, of `connect`.
            submission_id: the job's, of `submit_job`.
            patience_s: how long the cluster may fail to answer before the job is given up as lost.
            poll_s: how often it is asked; more rarely, up to every 30 s, while it does not answer.
        """
        self.client, self.id = client, submission_id
        self._patience_s, self._poll_s = patience_s, poll_s
        self._shown = 0  # characters of the log that were shown; it only grows

    def follow(self) -> JobDetails:
        """Show the job's log on stderr until the job ends; give the cluster's last answer about it.

        Raises:
            LostConnectionError: no answer for `patience_s`.
        """
        return asyncio.run(self._follow())

    def stop(self) -> None:
        """Ask the cluster to stop the job.

        Raises:
            LostConnectionError: it could not be asked.
        """
        try:
            self.client.stop_job(self.id)
        except _drops() as error:
            raise LostConnectionError(f"job {self.id} could not be stopped: {error}") from error

    async def _follow(self) -> JobDetails:
        tail = asyncio.create_task(self._tail())
        try:
            ended = await self._end()
        finally:
            tail.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await tail
        try:
            self._show(await asyncio.to_thread(self.client.get_job_logs, self.id), 0)
        except _drops() as error:
            logger.warning("the end of the job's log could not be had: %s", error)
        return ended

    async def _end(self) -> JobDetails:
        """Ask for the job's state until it is a final one."""
        answered, wait_s, state = time.monotonic(), self._poll_s, None
        while True:
            try:
                job = await asyncio.to_thread(self.client.get_job_info, self.id)
            except _drops() as error:
                silent_s = time.monotonic() - answered
                if silent_s > self._patience_s:
                    raise LostConnectionError(f"no answer about job {self.id} for {silent_s:.0f} s: {error}") from error
                logger.warning("no answer about job %s, trying again: %s", self.id, error)
                wait_s = min(2 * wait_s, max(_LONGEST_WAIT_S, self._poll_s))
            else:
                answered, wait_s = time.monotonic(), self._poll_s
                if job.status != state:
                    logger.info("job %s: %s", self.id, job.status)
                    state = job.status
                if job.status.is_terminal():
                    return job
            await asyncio.sleep(wait_s)

    async def _tail(self) -> None:
        """Show the log as it grows. Each connection sends it from its beginning; none says whether the job ended."""
        wait_s = self._poll_s
        while True:
            position = 0
            try:
                log = self.client.tail_job_logs(self.id)
                while True:
                    async with asyncio.timeout(_SILENCE_S):
                        text = await anext(log, None)
                    if text is None:
                        break
                    if self._show(text, position):
                        wait_s = self._poll_s
                    position += len(text)
            except _drops() as error:
                logger.debug("the log's stream broke off: %s", error)
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, max(_LONGEST_WAIT_S, self._poll_s))

    def _show(self, text: str, position: int) -> bool:
        """Write what is new in a piece of the log that begins at `position`; whether there was something new."""
        fresh = text[max(0, self._shown - position) :]
        self._shown += len(fresh)
        sys.stderr.write(fresh)
        sys.stderr.flush()
        return bool(fresh)


def _drops() -> tuple[type[Exception], ...]:
    """What a connection that fails raises: requests' errors are OSErrors; Ray raises RuntimeError for a bad answer."""
    from aiohttp import ClientError  # noqa: PLC0415 - comes with ray[default] only, and connect() says so

    return OSError, RuntimeError, RayError, ClientError
