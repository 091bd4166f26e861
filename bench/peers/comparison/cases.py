"""The cases: which request is sent how, and to whom.

Cases of one group run on the same instances, each round all cases and in each case all gateways, begun by another each time.
"""

import dataclasses

from .proxies import ARTICLE, ARTICLE_POOL, BY_NAME, FEATURES, PEERS, RINGGATE, bearer

CONNECTIONS = 64
PIPELINE = 16
KEYS = 1_000_000
OPEN_RATE = 2_000
# Of the rate at which we saturate in an open loop with the same keys.
ZIPF_SHARE = 0.6
# What is offered to find that rate, of the one in a closed loop.
OVERLOAD = 1.3
# In an open loop a gateway that cannot keep up must not make the run endless.
OPEN_BOUNDS = ("--connections-max", "256", "--timeout", "3s")
KEY_AS = ("--key-as", "header:X-Client")
ALL_KEYS = ("--keys", "uniform:1m", *KEY_AS)
ZIPF = ("--keys", "zipf:1m", *KEY_AS)

BASE = frozenset()
ROUTES = frozenset({"routes", "keyed"})


@dataclasses.dataclass(frozen=True)
class Contender:
    """A gateway with a setting; `label` names it in tables."""

    peer: str
    flags: frozenset = BASE
    note: str = ""

    @property
    def label(self):
        return f"{self.peer}, {self.note}" if self.note else self.peer


@dataclasses.dataclass(frozen=True)
class Case:
    """What is asked of whom. `times` stretches its seconds, `more` its rounds."""

    key: str
    title: str
    group: str
    contenders: tuple
    load: tuple
    path: str = "/bytes/128"
    body_bytes: int = 0
    status: int = 200
    rate: float = 0.0
    times: float = 1.0
    more: int = 1
    network: str = "loopback"

    @property
    def is_open(self):
        return self.rate != 0


def contenders(flags=BASE, slow=False, relay=True, slow_names=None):
    """All gateways that can have the setting."""
    chosen = []
    for peer in PEERS:
        if not flags <= peer.can or (peer.is_relay and not relay):
            continue
        if peer.is_slow and not (slow and (slow_names is None or peer.name in slow_names)):
            continue
        chosen.append(Contender(peer.name, flags))
    return tuple(chosen)


CLOSED = ("-c", str(CONNECTIONS))
OPEN = ("--rate", str(OPEN_RATE), *OPEN_BOUNDS)
EVERYONE = contenders(slow=True)


def _plain():
    fast = contenders()
    group = "plain"
    return [
        Case("keep-alive-128", "keep-alive, 128 B answers", group, EVERYONE, CLOSED),
        Case("keep-alive-16k", "keep-alive, 16 KiB answers", group, EVERYONE, CLOSED, "/bytes/16384"),
        Case("keep-alive-1m", "keep-alive, 1 MiB answers", group, fast, CLOSED, "/bytes/1048576"),
        Case("post-4k", "POST of 4 KiB", group, fast, CLOSED, "/post", body_bytes=4096),
        Case("post-64k", "POST of 64 KiB", group, fast, CLOSED, "/post", body_bytes=65536),
        Case("chunked-16k", "chunked answers of 16 KiB", group, fast, CLOSED, "/chunked/16384"),
        Case(
            "new-connection",
            "a new connection for each request",
            group,
            contenders(slow=True, slow_names=(ARTICLE, ARTICLE_POOL)),
            (*CLOSED, "--no-keepalive"),
        ),
        Case("pipelined", f"pipelined, {PIPELINE} deep", group, fast, (*CLOSED, "--pipeline", str(PIPELINE))),
        Case("open-2000", "open loop, 2,000/s", group, EVERYONE, OPEN, rate=OPEN_RATE, times=1.5),
    ]


def _settings():
    own = Contender(RINGGATE, note="no log")
    proxied = Contender(RINGGATE, note="let through")
    keyed = Contender(RINGGATE, ROUTES)
    unlimited = Contender(RINGGATE, frozenset({"routes", "unlimited"}), "no limits")
    keyed_all = contenders(ROUTES, relay=False)
    return [
        Case("access-log", "JSON access log to a file", "log", (*contenders(frozenset({"log"})), own), CLOSED),
        Case("unix-upstream", "upstream behind a Unix socket", "unix", contenders(frozenset({"unix"})), CLOSED),
        Case(
            "refused",
            "429 answers",
            "refuse",
            (*contenders(frozenset({"refuse"}), slow=True, slow_names=("Traefik", ARTICLE)), proxied),
            (*CLOSED, "--expect", "200,429"),
            status=429,
        ),
        Case("routes-limits", "100 routes, two limits over 1 M keys", "routes", keyed_all, (*CLOSED, *ALL_KEYS)),
        Case("limiter-cost", "what two limits over 1 M keys cost", "routes", (keyed, unlimited), (*CLOSED, *ALL_KEYS), more=3),
        Case(
            "zipf-60",
            "open loop, zipf keys at 60 % of our rate",
            "routes",
            (*keyed_all, Contender("raw relay")),
            (*ZIPF, *OPEN_BOUNDS),
            rate=-1,
            times=1.5,
        ),
    ]


# What the aim of 1 µs is about; the limits are there unless they are taken out.
ASKED_FOR = frozenset({"template", "token", "edits", "networks"})


def _features():
    """What each thing costs that a route can ask for. All contenders are sent the same request, with a token."""
    without = frozenset({"unlimited"})
    bare, asked_for = Contender(RINGGATE, without, "bare"), Contender(RINGGATE, ASKED_FOR, "all asked for")
    each = [bare, Contender(RINGGATE, BASE, "two limits")]
    each += [Contender(RINGGATE, without | {one}, one) for one in FEATURES]
    load = (*CLOSED, "-H", bearer())
    return [
        Case("features", "what a route can ask for", "features", (*each, asked_for), load),
        Case("features-all", "what a route can ask for, together", "features", (bare, asked_for), load, more=6),
    ]


def _veth():
    fast = contenders()
    same = {"network": "veth", "group": "veth"}
    kept = {"keep-alive-128", "keep-alive-16k", "new-connection", "open-2000"}
    return [
        dataclasses.replace(case, key=f"veth-{case.key}", title=f"veth pair: {case.title}", contenders=fast, **same)
        for case in _plain()
        if case.key in kept
    ]


# Once for each gateway, by itself: see `idle`.
IDLE = "idle"
CASES = [*_plain(), *_settings(), *_features(), *_veth()]
KEYS_OF_CASES = [case.key for case in CASES] + [IDLE]


def drop_relay_where_no_http(cases):
    """A relay opens a connection to the upstream with each client's; there it does other work than a gateway."""
    kept = []
    for case in cases:
        if case.key.endswith("new-connection"):
            without = tuple(one for one in case.contenders if not BY_NAME[one.peer].is_relay)
            case = dataclasses.replace(case, contenders=without)
        kept.append(case)
    return kept


def chosen(case_keys, peer_names, networks):
    """The cases and their contenders that were asked for, in order."""
    cases = []
    for case in drop_relay_where_no_http(CASES):
        if case.key not in case_keys or case.network not in networks:
            continue
        left = tuple(one for one in case.contenders if one.peer in peer_names)
        if left:
            cases.append(dataclasses.replace(case, contenders=left))
    return cases
