"""Requests to Zooniverse's API (Panoptes) through panoptes-client, with time limits and bounded retries.

panoptes-client itself sets no time limit, repeats only some requests, and cannot be told to sign in with either.
"""

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from galaxy_batch.errors import InputError
from galaxy_batch.storage.retries import with_retries

__all__ = ["CREDENTIALS", "RefusedError", "ZooniverseApi"]

T = TypeVar("T")

CREDENTIALS = ("PANOPTES_USERNAME", "PANOPTES_PASSWORD")
"""Variables of the environment. What they hold is written nowhere."""

_TIMEOUT_S = (10, 60)  # to connect, and of silence
_PAGE = 100


class RefusedError(Exception):
    """Zooniverse has responded with an error that another attempt would not change."""


class ZooniverseApi:
    """Requests to Zooniverse, signed in, with time limits; transient failures are OSErrors."""

    def __init__(self) -> None:
        from panoptes_client import Panoptes  # noqa: PLC0415 - optional dependency

        logging.getLogger("panoptes_client").setLevel(logging.WARNING)
        # "keyring" signs in nowhere yet, so that signing in has time limits and retries as well
        self._client = Panoptes(login="keyring")
        _limit_time(self._client.session)
        try:
            with_retries(lambda: _transient(self._sign_in))
        except RefusedError as refused:
            raise InputError("upload", os.environ[CREDENTIALS[0]], f"cannot sign in to Zooniverse: {refused}") from None

    def get(self, path: str, **parameters: Any) -> dict[str, Any]:
        """The content at a path of the API."""
        return with_retries(lambda: self._request("GET", path, params=parameters))

    def pages(self, path: str, kind: str, **parameters: Any) -> Iterator[dict[str, Any]]:
        """The resources at a path, of all pages."""
        page, pages = 1, 1
        while page <= pages:
            content = self.get(path, page=page, page_size=_PAGE, **parameters)
            yield from content.get(kind, ())
            pages = int(((content.get("meta") or {}).get(kind) or {}).get("page_count") or 1)
            page += 1

    def post(self, path: str, content: Mapping[str, Any]) -> dict[str, Any]:
        """Create something, of which two do no harm."""
        return with_retries(lambda: self.post_once(path, content))

    def post_once(self, path: str, content: Mapping[str, Any]) -> dict[str, Any]:
        """Create something in one attempt."""
        return self._request("POST", path, json=content)

    def put_picture(self, url: str, picture: bytes, kind: str) -> None:
        """Upload a picture to the address that Zooniverse has given for it."""
        import requests  # noqa: PLC0415 - comes with the optional dependency

        headers = {"Content-Type": kind, "x-ms-blob-type": "BlockBlob"}  # Zooniverse's pictures are in Azure

        def put() -> None:
            response = requests.put(url, headers=headers, data=picture, timeout=_TIMEOUT_S)
            if 400 <= response.status_code < 500 and response.status_code not in (408, 429):
                raise RefusedError(f"HTTP status {response.status_code}")
            response.raise_for_status()

        with_retries(lambda: _transient(put))

    def _sign_in(self) -> None:
        self._client.login(*(os.environ[name] for name in CREDENTIALS))
        self._client.get_bearer_token()

    def _request(self, method: str, path: str, **content: Any) -> dict[str, Any]:
        response, _ = _transient(lambda: self._client.json_request(method, path, **content))
        return dict(response or {})


def _transient(call: Callable[[], T]) -> T:
    """Return `call()`; failures that may pass are raised as OSError, others as `RefusedError`, without addresses."""
    import requests  # noqa: PLC0415 - comes with the optional dependency
    from panoptes_client.panoptes import PanoptesAPIException  # noqa: PLC0415

    try:
        return call()
    except requests.HTTPError as error:
        raise ConnectionError(str(error).partition(" for url")[0]) from None
    except (requests.RequestException, KeyError) as error:  # KeyError: a response without its content
        raise ConnectionError(f"no usable response ({type(error).__name__})") from None
    except PanoptesAPIException as error:
        if "HTTP status code 5" in str(error):
            raise ConnectionError(str(error)) from None
        raise RefusedError(str(error)) from None


def _limit_time(session: Any) -> None:
    """Give all requests of a session, which have none, a time limit."""
    import requests  # noqa: PLC0415 - comes with the optional dependency

    class Limited(requests.adapters.HTTPAdapter):
        def send(self, *arguments: Any, **options: Any) -> Any:
            return super().send(*arguments, **{**options, "timeout": options.get("timeout") or _TIMEOUT_S})

    for scheme in ("https://", "http://"):
        session.mount(scheme, Limited())
