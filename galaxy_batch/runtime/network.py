"""The network that OpenVINO computes, once for all workers of a job: from the cache, or converted in a Ray task."""

import logging

import ray

from galaxy_batch.errors import InputError
from galaxy_batch.model.engines.choose import converted_network
from galaxy_batch.model.engines.network_cache import cached_network
from galaxy_batch.runtime.workers import Workers

__all__ = ["shared_network"]

logger = logging.getLogger(__name__)


def shared_network(checkpoint_uri: str, checkpoint_id: str, workers: Workers) -> "ray.ObjectRef[bytes] | None":
    """The converted network in Ray's object store, from which each node gets it; None for other engines.

    Raises:
        InputError: the layers of the checkpoint do not fit its architecture.
    """
    if workers.engine != "openvino":
        return None
    kept = cached_network(checkpoint_id, workers.batch_size)
    if kept is not None:
        return ray.put(kept)
    logger.info("converting the network for OpenVINO; it is kept for further runs")
    convert = ray.remote(num_cpus=1, max_calls=1)(converted_network)  # its process, with torch in memory, ends with it
    network: ray.ObjectRef[bytes] = convert.remote(checkpoint_uri, workers.batch_size)
    try:
        ray.get(network)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, InputError):
            raise error.cause from None
        raise
    return network
