"""A Ray cluster of several hosts on one machine, each in its own network namespace, connected by a bridge.

A disconnected host keeps running, as in a network failure; a killed one loses all its processes, as in a power cut.
Without permission for network namespaces, a host is a raylet on loopback, which can only be killed. Namespaces end with
the processes that hold them.
"""

import contextlib
import itertools
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

__all__ = ["Cluster", "Host", "namespaces_can_be_made"]

_SUBNET = "10.77.0"
_LISTEN = """
import socket, sys
with socket.create_server((sys.argv[1], 0), backlog=256) as server, socket.socket(fileno=int(sys.argv[2])) as to:
    socket.send_fds(to, [b"x"], [server.fileno()])
"""


def _unshare() -> list[str]:
    return ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--net"]


def namespaces_can_be_made() -> bool:
    """Whether this user may create network namespaces."""
    if not (shutil.which("unshare") and shutil.which("nsenter") and shutil.which("ip")):
        return False
    words = [*_unshare(), "sh", "-c", "ip link add test0 type bridge && ip link add a0 type veth peer name a1"]
    return subprocess.run(words, capture_output=True, check=False, timeout=20).returncode == 0


class _Namespace:
    """A network namespace, held by a sleeping process."""

    def __init__(self, within: "_Namespace | None" = None) -> None:
        holder = [sys.executable, "-c", "import sys; print(flush=True); sys.stdin.read()"]
        words = [*_unshare(), *holder] if within is None else [*within.enter, "unshare", "--net", *holder]
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"\n", "no network namespace"
        self.pid = self.process.pid
        user = [] if os.geteuid() == 0 else ["--user", "--preserve-credentials"]
        self.enter = ["nsenter", f"--target={self.pid}", *user, "--net"]
        self.run("ip", "link", "set", "lo", "up")

    def run(self, *words: str) -> None:
        subprocess.run([*self.enter, *words], check=True, timeout=20)

    def processes(self) -> list[psutil.Process]:
        """All processes in the namespace except the one that holds it."""
        mark, processes = os.readlink(f"/proc/{self.pid}/ns/net"), []
        for process in psutil.process_iter():
            with contextlib.suppress(OSError):
                if process.pid != self.pid and os.readlink(f"/proc/{process.pid}/ns/net") == mark:
                    processes.append(process)
        return processes

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


class Host:
    """A node of the cluster: `ray start` and all its child processes."""

    def __init__(self, cluster: "Cluster", number: int, words: Sequence[str]) -> None:
        self.number, self.cluster = number, cluster
        self.ip = f"{_SUBNET}.{number}" if cluster.switch else "127.0.0.1"
        self.namespace = _Namespace(cluster.switch) if cluster.switch else None
        if cluster.switch and self.namespace:
            ours = f"host{number}"
            cluster.switch.run(
                "ip", "link", "add", ours, "type", "veth", "peer", "name", "eth0", "netns", str(self.namespace.pid)
            )
            cluster.switch.run("ip", "link", "set", ours, "master", "switch", "up")
            self.namespace.run("ip", "addr", "add", f"{self.ip}/24", "dev", "eth0")
            self.namespace.run("ip", "link", "set", "eth0", "up")
        enter = self.namespace.enter if self.namespace else []
        start = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", f"--node-ip-address={self.ip}"]
        own = [f"--temp-dir={cluster.temporary}/{number}"]  # shared, a host replaces the job's folder of another
        self.log = cluster.folder / f"host{number}.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [*enter, *start, "--disable-usage-stats", "--object-store-memory=150000000", *words, *own],
                env=cluster.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        self._seen: set[psutil.Process] = set()

    def processes(self, title: str = "") -> list[psutil.Process]:
        """Processes of the host whose command line contains `title`."""
        if self.namespace and self.namespace.process.poll() is None:
            self._seen.update(self.namespace.processes())
        with contextlib.suppress(psutil.NoSuchProcess):
            me = psutil.Process(self.process.pid)
            self._seen.update([me, *me.children(recursive=True)])
        processes = []
        for process in self._seen:
            with contextlib.suppress(psutil.Error):
                if title in " ".join(process.cmdline()):
                    processes.append(process)
        return processes

    def kill(self, title: str = "") -> int:
        """`kill -9` all its processes, or those with `title` in their command line; returns their number."""
        victims = self.processes(title)
        for process in victims:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        return len(victims)

    def disconnect(self) -> None:
        """Disconnect the host from the network."""
        assert self.cluster.switch, "only a host in a namespace can be disconnected"
        self.cluster.switch.run("ip", "link", "set", f"host{self.number}", "down")

    def close(self) -> None:
        self.processes()
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(15)
        self.kill()
        self.process.wait()
        psutil.wait_procs(self._seen, timeout=20)
        if self.namespace:
            self.namespace.close()


class Cluster:
    """A head with 0 CPUs and a job server, hosts that are added, and `outside`, a machine on the same network.

    Args:
        folder: for logs.
        environment: additional environment of all processes.
        namespaces: whether hosts have network namespaces.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str], namespaces: bool) -> None:
        self.folder = folder
        self.switch = _Namespace() if namespaces else None
        self.outside = f"{_SUBNET}.1" if namespaces else "127.0.0.1"
        if self.switch:
            self.switch.run("ip", "link", "add", "switch", "type", "bridge")
            self.switch.run("ip", "addr", "add", f"{self.outside}/24", "dev", "switch")
            self.switch.run("ip", "link", "set", "switch", "up")
        self._token = secrets.token_hex(32)
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("RAY_", "AWS_"))}
        self.environment = {
            **inherited,
            "PATH": f"{Path(sys.executable).parent}:{inherited['PATH']}",  # `python` of a job is this interpreter
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": self._token,
            "RAY_health_check_initial_delay_ms": "5000",
            "RAY_health_check_period_ms": "2000",  # a dead host is detected after about ten seconds
            "RAY_health_check_timeout_ms": "5000",
            "RAY_health_check_failure_threshold": "3",
            "RAY_grpc_client_keepalive_time_ms": "5000",  # otherwise a lost host is detected after minutes
            "RAY_grpc_client_keepalive_timeout_ms": "5000",
            "RAY_num_workers_soft_limit": "8",  # with one CPU, Ray would start a process for each task
            **environment,
        }
        self.temporary = tempfile.mkdtemp(prefix="ray", dir="/tmp")  # the path of a socket must be short
        self.hosts: list[Host] = []
        self._numbers = itertools.count(2)
        self._port, self._dashboard = self._free_ports(2)

    def listener(self) -> socket.socket:
        """A socket of this process that listens at the address of `outside`."""
        if not self.switch:
            return socket.create_server((self.outside, 0), backlog=256)
        ours, theirs = socket.socketpair()
        with ours, theirs:
            words = [*self.switch.enter, sys.executable, "-c", _LISTEN, self.outside, str(theirs.fileno())]
            subprocess.run(words, pass_fds=[theirs.fileno()], check=True, timeout=30)
            return socket.socket(fileno=socket.recv_fds(ours, 1, 1)[1][0])

    @property
    def head_ip(self) -> str:
        return f"{_SUBNET}.2" if self.switch else "127.0.0.1"

    @property
    def url(self) -> str:
        """URL of the job server."""
        return f"http://{self.head_ip}:{self._dashboard}"

    @property
    def enter(self) -> list[str]:
        """Prefix of a command that runs on `outside`."""
        return self.switch.enter if self.switch else []

    def start_head(self) -> Host:
        agent, client = self._free_ports(2)
        words = f"""--head --num-cpus=0 --include-dashboard=true --dashboard-host={self.head_ip} --port={self._port}
            --dashboard-port={self._dashboard} --dashboard-agent-listen-port={agent}
            --ray-client-server-port={client}"""
        self.hosts.append(Host(self, next(self._numbers), words.split()))
        self._wait(lambda: self.request_json("/api/jobs/") is not None)
        return self.hosts[0]

    def add_host(self, num_cpus: int = 1) -> Host:
        """Add a host, and wait until it has joined the cluster."""
        (agent,) = self._free_ports(1)
        before = self.alive_nodes()
        words = f"--address={self.head_ip}:{self._port} --num-cpus={num_cpus} --dashboard-agent-listen-port={agent}"
        self.hosts.append(Host(self, next(self._numbers), words.split()))
        self._wait(lambda: self.alive_nodes() > before)
        return self.hosts[-1]

    def alive_nodes(self) -> int:
        """Number of live nodes according to the head; the dashboard's own list includes lost nodes."""
        nodes = self.request_json("/api/v0/nodes")["data"]["result"]["result"]
        return sum(node["state"] == "ALIVE" for node in nodes)

    def request_json(self, path: str) -> Any:
        """Response of the head's dashboard, from JSON."""
        code = "import sys, urllib.request; print(urllib.request.urlopen(urllib.request.Request(sys.argv[1],"
        code += " headers={'Authorization': 'Bearer ' + sys.argv[2]}), timeout=10).read().decode())"
        if self.switch:
            words = [*self.enter, sys.executable, "-c", code, self.url + path, self._token]
            done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)
            if done.returncode:
                raise OSError(done.stderr[-500:])
            return json.loads(done.stdout)
        request = urllib.request.Request(self.url + path, headers={"Authorization": f"Bearer {self._token}"})
        with urllib.request.urlopen(request, timeout=10) as response:
            return json.load(response)

    def _free_ports(self, count: int) -> list[int]:
        with contextlib.ExitStack() as stack:
            sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
            return [int(s.getsockname()[1]) for s in sockets]

    def _wait(self, ready: Any, seconds: float = 90) -> None:
        deadline = time.monotonic() + seconds
        while True:
            with contextlib.suppress(OSError, KeyError, TypeError):
                if ready():
                    return
            log = self.hosts[-1].log
            assert self.hosts[-1].process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, "a host did not start: " + log.read_text()
            time.sleep(0.5)

    def close(self) -> None:
        for host in reversed(self.hosts):
            host.close()
        if self.switch:
            self.switch.close()
        shutil.rmtree(self.temporary, ignore_errors=True)
