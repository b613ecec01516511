"""Upload of a queue to Zooniverse as a subject set, which can be interrupted anywhere and repeated.

A subject is created, its picture uploaded, and only then is it linked to the set, so that volunteers never get a
subject without a picture. What the set has is asked of Zooniverse at the start; `zooniverse/upload.json` records which
subjects are about to be linked. A run that is killed leaves at most `_BATCH` created subjects that belong to no set,
which nobody sees.

panoptes-client signs in and speaks to the API. Its own `Subject.save` is not used: it ignores the failure of a picture,
and where a response is lost it cannot tell whether a subject is in the set.
"""

import json
import logging
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from galaxy_batch.errors import GateError, InputError
from galaxy_batch.review_queue.queue import ReviewQueue
from galaxy_batch.review_queue.zooniverse import IMAGE_FIELD, subject_fields
from galaxy_batch.review_queue.zooniverse_api import CREDENTIALS, RefusedError, ZooniverseApi
from galaxy_batch.runtime.progress import with_progress
from galaxy_batch.storage.files import join, read_bytes, write_json
from galaxy_batch.storage.retries import with_retries

__all__ = ["check_credentials", "upload_subjects"]

logger = logging.getLogger(__name__)

_NAME, _PASSWORD = "PANOPTES_USERNAME", "PANOPTES_PASSWORD"
_BATCH = 20  # subjects that are linked together
_AT_ONCE = 4
_KEY = "object_id"


def check_credentials() -> None:
    """Check what an upload needs, before anything is made.

    Raises:
        InputError: panoptes-client is not installed, or a variable of the environment is not set.
    """
    try:
        import panoptes_client  # noqa: F401, PLC0415 - optional dependency
    except ImportError:
        raise InputError("upload", None, "needs panoptes-client: `uv sync --extra zooniverse`") from None
    if not all(map(os.environ.get, CREDENTIALS)):
        raise InputError("upload", None, f"set the environment variables {' and '.join(CREDENTIALS)}")


def upload_subjects(queue: ReviewQueue, project: int) -> dict[str, Any]:
    """Upload the subjects that the queue's subject set does not have yet.

    Args:
        queue: with its subject set written.
        project: number of the Zooniverse project.

    Returns:
        `project`, `subject_set`, `subjects` in the set, those `uploaded` by this run, and `failed` ones.

    Raises:
        InputError: signing in fails, there is no such project, or another subject set has the queue's name.
        GateError: Zooniverse does not respond, or refuses; what is uploaded stays, and the same command goes on.
    """
    upload = _Upload(queue, project)
    try:
        return upload.run()
    except (RefusedError, OSError) as error:
        done = f"{upload.linked:,} of {upload.total:,} subjects are in the set"
        raise GateError(f"Zooniverse: {error}; {done}; run the same command again to go on", upload.summary()) from None


@dataclass(frozen=True)
class _Created:
    """What has come of one subject."""

    object_id: str
    subject: str | None
    """Its number; None where it was not created, or has no picture."""
    left_out: str | None = None
    """Why this one cannot be uploaded; the others can."""
    error: Exception | None = None
    """Why the upload cannot go on."""


class _Upload:
    """One run of an upload."""

    def __init__(self, queue: ReviewQueue, project: int) -> None:
        self._queue, self._project = queue, project
        self._rows = [row for row in queue.rows.to_pylist() if row["picture"] is not None]
        self._journal_uri = join(queue.uri, "zooniverse", "upload.json")
        self.subject_set: str | None = None
        self.linked, self.new, self.failed = 0, 0, 0

    @property
    def total(self) -> int:
        """Subjects that the set is to have."""
        return len(self._rows)

    def summary(self) -> dict[str, Any]:
        """What the set has so far."""
        return {
            "project": self._project,
            "subject_set": self.subject_set,
            "subjects": self.linked,
            "uploaded": self.new,
            "failed": self.failed,
        }

    def run(self) -> dict[str, Any]:
        """Upload what is missing."""
        self._api = ZooniverseApi()
        self._require_project()
        self.subject_set = self._find_or_create_set()
        there = self._objects_in_set()
        self._link_unfinished(there)
        missing = [row for row in self._rows if str(row[_KEY]) not in there]
        self.linked = self.total - len(missing)
        logger.info("subject set %s has %d of %d subjects", self.subject_set, self.linked, self.total)
        batches = [missing[start : start + _BATCH] for start in range(0, len(missing), _BATCH)]
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for batch in with_progress(batches, "uploading", len(missing)):
                created = list(pool.map(self._create, batch))
                waiting = {one.object_id: one.subject for one in created if one.subject is not None}
                self._record(waiting)
                self._link(list(waiting.values()))
                for one in created:
                    self._count_failure(one)
        if self.failed:
            logger.warning("%d subjects are left out: their pictures could not be uploaded", self.failed)
        return self.summary()

    def _require_project(self) -> None:
        try:
            projects = self._api.get(f"/projects/{self._project}")["projects"]
        except RefusedError as refused:
            raise InputError("upload", self._project, f"no such project, or no access to it: {refused}") from None
        logger.info("Zooniverse project %d: %s", self._project, projects[0].get("display_name", ""))

    def _find_or_create_set(self) -> str:
        """The set of this queue; created where there is none. Looks again before each attempt to create it."""
        catalog = self._queue.record["catalog"]
        origin = {
            "#queue": self._queue.name,
            "#created": str(self._queue.record["created"]),
            **{f"#{name}": str(catalog[name]) for name in ("release", "model_id", "fingerprint")},
        }
        content = {
            "display_name": self._queue.name,
            "metadata": origin,
            "links": {"project": str(self._project)},
        }

        def find_or_create() -> str:
            for one in self._api.pages("/subject_sets", "subject_sets", project_id=self._project):
                if one["display_name"] == self._queue.name:
                    if {name: (one.get("metadata") or {}).get(name) for name in origin} == origin:
                        return str(one["id"])
                    remedy = "the project has another subject set of this name: make the queue with another name"
                    raise InputError("name", self._queue.name, remedy)
            return str(self._api.post_once("/subject_sets", {"subject_sets": content})["subject_sets"][0]["id"])

        return with_retries(find_or_create)

    def _objects_in_set(self) -> set[str]:
        """Ids of the objects that the set has."""
        subjects = self._api.pages("/subjects", "subjects", subject_set_id=self.subject_set)
        return {str((subject.get("metadata") or {}).get(_KEY)) for subject in subjects}

    def _link_unfinished(self, there: set[str]) -> None:
        """Link the subjects that a run before this one has uploaded, but not linked."""
        try:
            journal = json.loads(read_bytes(self._journal_uri))
        except FileNotFoundError:
            return
        if journal["project"] != self._project or journal["subject_set"] != self.subject_set:
            return  # of another project, or of a set that was deleted
        waiting = {object_id: subject for object_id, subject in journal["waiting"].items() if object_id not in there}
        try:
            self._link(list(waiting.values()))
        except RefusedError as refused:
            logger.warning("%d uploaded subjects are uploaded again: %s", len(waiting), refused)
        else:
            there.update(waiting)

    def _record(self, waiting: Mapping[str, str]) -> None:
        """Write which subjects are about to be linked."""
        journal = {"project": self._project, "subject_set": self.subject_set, "waiting": dict(waiting)}
        write_json(self._journal_uri, journal)

    def _create(self, row: dict[str, Any]) -> _Created:
        """Create a subject and upload its picture. Raises nothing, so that the others of the batch are linked."""
        fields = subject_fields(self._queue, row)
        object_id = fields[_KEY]
        try:
            picture = read_bytes(join(self._queue.uri, "zooniverse", fields[IMAGE_FIELD]))
            kind = _media_type(picture)
        except (FileNotFoundError, ValueError) as error:
            return _Created(object_id, None, f"its picture cannot be used: {error}")
        content = {"locations": [kind], "metadata": fields, "links": {"project": str(self._project)}}
        try:
            subject = self._api.post("/subjects", {"subjects": content})["subjects"][0]
        except (RefusedError, OSError) as error:
            return _Created(object_id, None, error=error)
        try:
            self._api.put_picture(subject["locations"][0][kind], picture, kind)
        except RefusedError as refused:
            return _Created(object_id, None, f"its picture is refused: {refused}")
        except OSError as error:
            return _Created(object_id, None, error=error)
        return _Created(object_id, str(subject["id"]))

    def _count_failure(self, created: _Created) -> None:
        if created.error is not None:
            raise created.error
        if created.left_out is not None:
            logger.warning("object %s is left out: %s", created.object_id, created.left_out)
            self.failed += 1

    def _link(self, subjects: Sequence[str]) -> None:
        """Link subjects to the set. Each attempt asks first which it has: a response may have been lost."""

        def link() -> None:
            if not subjects:
                return
            ids = {"subject_set_id": self.subject_set, "subject_id": ",".join(subjects)}
            members = self._api.pages("/set_member_subjects", "set_member_subjects", **ids)
            there = {str(member["links"]["subject"]) for member in members}
            missing = [subject for subject in subjects if subject not in there]
            if missing:
                self._api.post_once(f"/subject_sets/{self.subject_set}/links/subjects", {"subjects": missing})

        with_retries(link)
        self.linked += len(subjects)
        self.new += len(subjects)


def _media_type(picture: bytes) -> str:
    for start, kind in ((b"\xff\xd8\xff", "image/jpeg"), (b"\x89PNG", "image/png")):
        if picture.startswith(start):
            return kind
    raise ValueError("its picture is neither JPEG nor PNG")
