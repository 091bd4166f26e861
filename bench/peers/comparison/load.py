"""One measurement: `ringgate-load` on core 1 against a gateway on core 0, and what both cores did meanwhile."""

import json
import pathlib
import socket
import subprocess
import time

from . import system

LOAD_CORE, PROXY_CORE = 1, 0
WARM_UP_SECONDS = 0.25
# A run, its warm-up and the start of the generator.
OVERHEAD_SECONDS = 0.55
# A core that was busy for this share of the time was the bottleneck.
SATURATED = 0.95
# The generator's exit codes for "requests failed" and "could not keep its schedule": reported, and no reason to stop.
EXPECTED_CODES = (0, 1, 3)
# Long, and nothing here reads them.
LEFT_OUT = {"histogram", "curve", "intervals", "first_byte", "connect", "lag"}


class LoadError(RuntimeError):
    """The generator could not run."""


def generator():
    """Where `ringgate-load` is."""
    found = system.program("ringgate-load")
    if not found:
        raise LoadError("ringgate-load is not built")
    return found


def command(case, url, seconds, rate=None, body_file=None):
    words = ["taskset", "-c", str(LOAD_CORE), generator(), "-t", "1", *case.load]
    if rate and rate != case.rate:
        words += ["--rate", f"{rate:.0f}"]
    if body_file:
        words += ["-X", "POST", "-b", f"@{body_file}"]
    words += ["--live", "never", "-w", f"{int(WARM_UP_SECONDS * 1000)}ms", "-d", f"{int(seconds * 1000)}ms", "--json", "-", url]
    return words


def measure(instance, case, seconds, rate=None, body_file=None):
    """CPU time of the gateway for each request, rate, latencies, and how busy each core was."""
    url = f"http://127.0.0.1:{instance.port}{case.path}"
    busy, cpu, began = system.busy_seconds(), system.cpu_seconds(instance.pid), time.monotonic()
    run = subprocess.run(command(case, url, seconds, rate, body_file), capture_output=True, text=True)
    took = time.monotonic() - began
    cpu = system.cpu_seconds(instance.pid) - cpu
    busy = {core: now - busy.get(core, now) for core, now in system.busy_seconds().items()}
    if run.returncode not in EXPECTED_CODES:
        raise LoadError(f"ringgate-load ended with code {run.returncode}: {run.stderr.strip()[-300:]}")
    load = json.loads(run.stdout)
    requests = load["requests"]
    # All that were answered while the clock of the CPU time ran, the warm-up's among them.
    answered = requests["succeeded"] + requests["warmup"] - requests.get("warmup_failed", 0)
    latency = load["latency_from_intended"] or load["latency_from_send"] or {}
    return {
        "exit": run.returncode,
        "cpu_us": cpu * 1e6 / answered if answered else None,
        "cpu_s": cpu,
        "took_s": took,
        "answered": answered,
        "failed": requests["failed"],
        "rate": load["responses_per_second"],
        "rate_intended": load["rate_per_second_intended"],
        "statuses": load["statuses"],
        "errors": load["errors"],
        **{f"{name}_us": latency.get(f"{name}_us") for name in ("p50", "p99", "p99_9")},
        "proxy_core_busy": min(1.0, busy.get(PROXY_CORE, 0) / took),
        "load_core_busy": min(1.0, busy.get(LOAD_CORE, 0) / took),
        "load": _without(load, LEFT_OUT),
    }


def saturated(row):
    """Which side had no time left."""
    gateway, generator = row["proxy_core_busy"] >= SATURATED, row["load_core_busy"] >= SATURATED
    if gateway and generator:
        return "both"
    return "gateway" if gateway else "generator" if generator else "neither"


def _without(tree, names):
    if not isinstance(tree, dict):
        return tree
    return {name: _without(value, names) for name, value in tree.items() if name not in names}


class Upstream:
    """The generator's own server on core 1, on TCP and, where it can, behind a Unix socket; in a namespace if there is one."""

    def __init__(self, folder, namespace=None):
        host = namespace.upstream if namespace else "127.0.0.1"
        self.address = f"{host}:{system.free_port()}"
        self.socket = folder / "upstream.sock"
        inside = namespace.inside() if namespace else []
        self.processes = [self._start(inside, self.address)]
        if not namespace:
            self.processes.append(self._start(inside, f"unix:{self.socket}"))
        self._wait()

    @staticmethod
    def _start(inside, listen):
        words = [*inside, "taskset", "-c", str(LOAD_CORE), generator(), "upstream", "-t", "1", "--listen", listen]
        return subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def _wait(self):
        host, _, port = self.address.rpartition(":")
        for _ in range(100):
            try:
                socket.create_connection((host, int(port)), 1).close()
                break
            except OSError:
                time.sleep(0.05)
        else:
            raise LoadError("the upstream does not listen")
        for _ in range(40):
            if self.has_unix() or (len(self.processes) > 1 and self.processes[1].poll() is not None):
                break
            time.sleep(0.05)

    def has_unix(self):
        return pathlib.Path(self.socket).exists()

    def end(self):
        for process in self.processes:
            process.terminate()
            process.wait()


class Namespace:
    """A network namespace of our own behind a veth pair; needs root."""

    # Of the range for benchmarks (RFC 2544).
    here, upstream = "198.18.77.1", "198.18.77.2"

    def __init__(self, name):
        self.name, self.link = name, name[-10:]
        self.ip("netns", "add", name)
        try:
            self.ip("link", "add", f"{self.link}-h", "type", "veth", "peer", "name", f"{self.link}-u", "netns", name)
            self.ip("addr", "add", f"{self.here}/30", "dev", f"{self.link}-h")
            self.ip("link", "set", f"{self.link}-h", "up")
            for words in (
                ("addr", "add", f"{self.upstream}/30", "dev", f"{self.link}-u"),
                ("link", "set", f"{self.link}-u", "up"),
                ("link", "set", "lo", "up"),
            ):
                self.ip("-n", name, *words)
        except LoadError:
            self.end()
            raise

    @staticmethod
    def ip(*words):
        try:
            run = subprocess.run(["ip", *words], capture_output=True, text=True)
        except OSError as error:
            raise LoadError(f"ip: {error}") from error
        if run.returncode != 0:
            raise LoadError(f"ip {' '.join(words)}: {run.stderr.strip()}")

    def inside(self):
        return ["ip", "netns", "exec", self.name]

    def end(self):
        # The pair goes with its end inside.
        subprocess.run(["ip", "netns", "del", self.name], capture_output=True)
        subprocess.run(["ip", "link", "del", f"{self.link}-h"], capture_output=True)
