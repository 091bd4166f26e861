"""The gateways: how each is set up, started and ended. One worker, pinned to one core.

A setting is a set of flags: `log` (an access log as JSON in a file), `unix` (the upstream behind a Unix socket), `routes`
(100 of them), `keyed` (two limits by a field of the request), `refuse` (a limit that refuses nearly all), `unlimited`. Of ours
alone: `template` (a path with captures), `token` (JSON Web Tokens, remembered), `edits` (five header fields), `networks` (a list of
100,000), `browser` (CORS, filters, security headers), `elsewhere` (all of these on a route for another host).
"""

import dataclasses
import http.client
import ipaddress
import os
import pathlib
import subprocess
import time

from . import system
from .template import render

CONFIG = pathlib.Path(__file__).resolve().parents[1] / "config"
# Keys and tokens of the gateway's tests.
KEYS = pathlib.Path(__file__).resolve().parents[3] / "gateway/tests/keys"
FEATURES = ("template", "token", "edits", "networks", "browser", "elsewhere")
NETWORKS = 100_000
START_SECONDS = 15


@dataclasses.dataclass(frozen=True)
class Peer:
    """A gateway: its name in tables, its program, what it can do, and how it is started."""

    name: str
    program: str
    version: tuple
    can: frozenset
    # (binary, place) -> arguments
    command: object
    configs: tuple = ()
    environment: tuple = ()
    # Measured in the cases of everyone only: several times slower than the rest, or one more build of ours.
    is_slow: bool = False
    is_relay: bool = False
    limits: str = "per client"

    def binary(self):
        return system.program(self.program)

    def said_version(self):
        binary = self.binary()
        if not binary:
            return None
        if not self.version[0].startswith("-"):
            return self.version[0]
        return system.said(binary, *self.version).replace(binary, self.program).strip()


def _article(pool):
    def command(binary, place):
        limit = ["0.0166", "1"] if "refuse" in place.flags else []
        return [binary, place.values["listen"], place.values["upstream"], pool, *limit]

    return command


def _pingora(binary, place):
    upstream = ("unix:" if "unix" in place.flags else "") + place.values["upstream"]
    words = [binary, "--listen", place.values["listen"], "--upstream", upstream]
    words += ["--limit", "1"] if "refuse" in place.flags else []
    words += ["--keys", "header"] if "keyed" in place.flags else []
    words += ["--routes", "100"] if "routes" in place.flags else []
    words += ["--log", place.values["log_file"]] if "log" in place.flags else []
    return words


def _relay(binary, place):
    return [binary, place.values["listen"], ("unix:" if "unix" in place.flags else "") + place.values["upstream"]]


ALL = frozenset({"log", "unix", "routes", "keyed", "refuse"})
RINGGATE, RINGGATE_PGO = "ringgate", "ringgate pgo"
RELAY, NGINX, HAPROXY, PINGORA, ENVOY = "raw relay", "nginx", "HAProxy", "pingora", "Envoy"
ARTICLE, ARTICLE_POOL = "article", "article-pool"
PEERS = [
    Peer(
        RINGGATE,
        "ringgate",
        ("--version",),
        ALL | {"unlimited", *FEATURES},
        lambda binary, place: [binary, "run", "-c", place.file("ringgate.toml")],
        ("ringgate.toml",),
    ),
    # The same, built by the profile of a run.
    Peer(
        RINGGATE_PGO,
        "ringgate-pgo",
        ("--version",),
        ALL,
        lambda binary, place: [binary, "run", "-c", place.file("ringgate.toml")],
        ("ringgate.toml",),
        is_slow=True,
    ),
    Peer(
        RELAY,
        "relay",
        ("monoio 0.2.4, SINGLE_ISSUER and DEFER_TASKRUN",),
        frozenset({"unix"}),
        _relay,
        is_relay=True,
        limits="none: no HTTP",
    ),
    Peer(NGINX, "nginx", ("-v",), ALL, lambda binary, place: [binary, "-c", place.file("nginx.conf")], ("nginx.conf",)),
    Peer(
        HAPROXY,
        "haproxy",
        ("-v",),
        ALL,
        lambda binary, place: [binary, "-db", "-f", place.file("haproxy.cfg")],
        ("haproxy.cfg", "routes.map"),
    ),
    Peer(PINGORA, "pingora", ("pingora 0.9.1",), ALL, _pingora),
    Peer(
        ENVOY,
        "envoy",
        ("--version",),
        ALL,
        lambda binary, place: [
            *(binary, "--concurrency", "1", "--disable-hot-restart", "--log-level", "error"),
            *("--file-flush-interval-msec", "1000", "-c", place.file("envoy.yaml")),
        ],
        ("envoy.yaml",),
    ),
    Peer(
        "Traefik",
        "traefik",
        ("Traefik 3.7.15",),
        ALL - {"unix"},
        lambda binary, place: [binary, "--configFile=" + place.file("traefik.yml")],
        ("traefik.yml", "traefik-routes.yml"),
        (("GOMAXPROCS", "1"),),
        is_slow=True,
    ),
    Peer(
        "Caddy",
        "caddy",
        ("Caddy 2.11.7",),
        frozenset({"log"}),
        lambda binary, place: [binary, "run", "--config", place.file("Caddyfile"), "--adapter", "caddyfile"],
        ("Caddyfile",),
        (("GOMAXPROCS", "1"),),
        is_slow=True,
        limits="none in the stock build",
    ),
    Peer(
        ARTICLE,
        "article",
        ("the tutorials' gateway, Go 1.27.3",),
        frozenset({"refuse"}),
        _article("0"),
        environment=(("GOMAXPROCS", "1"),),
        is_slow=True,
        limits="one bucket for all clients",
    ),
    Peer(
        ARTICLE_POOL,
        "article",
        ("the tutorials' gateway with a pool of 1,024, Go 1.27.3",),
        frozenset({"refuse"}),
        _article("1024"),
        environment=(("GOMAXPROCS", "1"),),
        is_slow=True,
        limits="one bucket for all clients",
    ),
]
BY_NAME = {peer.name: peer for peer in PEERS}


def networks():
    """So many of IPv4 that are not beside each other, none of which holds a client of ours."""
    each = (ipaddress.ip_address(0x20000000 + number * 0x1234) for number in range(NETWORKS))
    return "".join(f"{address}/{30 + number % 3}\n" for number, address in enumerate(each))


def bearer():
    """A field with a token of the tests."""
    lines = (KEYS / "tokens.txt").read_text().splitlines()
    return "Authorization: Bearer " + next(line.split()[1] for line in lines if line.startswith("ES256 "))


class Place:
    """The folder of one instance: its rendered configurations and its log."""

    def __init__(self, peer, flags, folder, upstream, workers=1):
        self.flags, self.folder = flags, folder
        folder.mkdir(parents=True)
        host, _, port = upstream.rpartition(":")
        self.port = system.free_port()
        self.values = {
            "dir": folder,
            "host": "127.0.0.1",
            "port": self.port,
            "listen": f"127.0.0.1:{self.port}",
            "admin": system.free_port(),
            "upstream": upstream,
            "upstream_host": host,
            "upstream_port": port,
            "log_file": str(folder / "access.log"),
            "workers": workers,
            "keys": KEYS,
            "networks": folder / "networks",
        }
        if flags & {"networks", "elsewhere"}:
            (folder / "networks").write_text(networks())
        for name in peer.configs:
            text = (CONFIG / name).read_text()
            (folder / name).write_text(render(text, flags, self.values))

    def file(self, name):
        return str(self.folder / name)


class Instance:
    """A running gateway."""

    def __init__(self, peer, flags, folder, upstream, cores="0", workers=1):
        self.peer, self.flags = peer, flags
        self.place = Place(peer, flags, folder, upstream, workers)
        self.port = self.place.port
        command = ["taskset", "-c", cores, *map(str, peer.command(peer.binary(), self.place))]
        # HAProxy logs to its standard output, which is then the log's file.
        out_name = "access.log" if "log" in flags and peer.name == HAPROXY else "stdout"
        self.out = (folder / out_name).open("ab")
        self.err = (folder / "stderr").open("ab")
        self.process = subprocess.Popen(
            command,
            stdout=self.out,
            stderr=self.err,
            stdin=subprocess.DEVNULL,
            cwd=folder,
            env={**os.environ, **dict(peer.environment), "HOME": str(folder)},
        )
        self.pid = self.process.pid
        # Answers that load has had of it.
        self.answered = 0

    def wait(self):
        """Until it answers; the reason why it does not, else None."""
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            if self.process.poll() is not None:
                return f"ended with code {self.process.returncode}: {self._last_words()}"
            try:
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
                connection.request("GET", "/bytes/1", headers={"X-Client": "0"})
                status = connection.getresponse().status
                connection.close()
                # Also where it asks for more than this: whether it answers a case rightly is looked at later.
                if status in (200, 401, 429):
                    return None
            except (OSError, http.client.HTTPException):
                pass
            time.sleep(0.05)
        return f"answered nothing for {START_SECONDS} s: {self._last_words()}"

    def _last_words(self):
        text = (self.place.folder / "stderr").read_text(errors="replace").strip()
        return text.splitlines()[-1][:200] if text else "no words"

    def log_lines(self):
        """Lines in its access log; read after its end."""
        try:
            with open(self.place.values["log_file"], "rb") as log:
                return sum(1 for _ in log)
        except OSError:
            return 0

    def end(self):
        self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.out.close()
        self.err.close()
