"""Memory at rest, for each idle connection, and what a request costs beside many of them. Each gateway by itself, once."""

import socket
import time

from . import load, system
from .cases import CASES, OPEN_RATE
from .proxies import RINGGATE, Instance

COUNTS = (5_000, 10_000)
# Buffers of an idle connection may be kept for a moment.
SETTLE_SECONDS = 2.5
SAMPLE_SECONDS = 0.25
REQUEST = b"GET /bytes/128 HTTP/1.1\r\nHost: a\r\nX-Client: 1\r\n\r\n"
SECONDS_EACH = 17


def measure(peer, folder, upstream, seconds, say):
    """Memory of a fresh instance, then with connections that have each had one answer; and the cost of load beside them."""
    instance = Instance(peer, frozenset(), folder, upstream)
    held = []
    try:
        wrong = instance.wait()
        if wrong:
            return {"peer": peer.name, "error": wrong}
        base = next(case for case in CASES if case.key == "keep-alive-128")
        at_rest = system.resident_bytes(instance.pid)
        # Its pools, buffers and arenas have then the size that work gives them.
        load.measure(instance, base, 0.5)
        points = [{"connections": 0, **settled(instance.pid)}]
        for count in COUNTS:
            say(f"{peer.name}: {count:,} idle connections")
            hold(instance.port, count, held)
            points.append({"connections": len(held), **settled(instance.pid)})
        beside = load.measure(instance, base, seconds)
        still_open = sum(map(is_open, held))
        result = {"peer": peer.name, "at_rest": at_rest, "points": points, "beside": beside, "still_open": still_open, "error": None}
        first, last = points[0], points[-1]
        result["bytes_each"] = (last["resident"] - first["resident"]) / max(1, last["connections"])
        return result
    except (OSError, load.LoadError) as error:
        return {"peer": peer.name, "error": f"{type(error).__name__}: {error}"}
    finally:
        for stream in held:
            stream.close()
        instance.end()


def settled(pid):
    """Memory when it was left alone for a while, and what it was meanwhile: seconds and resident bytes."""
    began, settling = time.monotonic(), []
    while True:
        now, passed = system.resident_bytes(pid), time.monotonic() - began
        if passed >= SETTLE_SECONDS:
            return {**now, "settling": settling}
        settling.append([round(passed, 2), now["resident"]])
        time.sleep(min(SAMPLE_SECONDS, SETTLE_SECONDS - passed))


def own_at_rest(peer, folder, upstream):
    """Ours with two workers and the default table of a limit: what it takes before the first request and after some."""
    instance = Instance(peer, frozenset(), folder, upstream, cores="0,1", workers=2)
    try:
        wrong = instance.wait()
        if wrong:
            return {"error": wrong}
        fresh = system.resident_bytes(instance.pid)
        case = next(case for case in CASES if case.key == "open-2000")
        load.measure(instance, case, 1.0)
        time.sleep(SETTLE_SECONDS)
        return {"fresh": fresh, "after_load": system.resident_bytes(instance.pid), "rate": OPEN_RATE, "error": None}
    finally:
        instance.end()


def hold(port, count, held):
    """Opens connections until there are `count`, each of which has asked once and was answered."""
    while len(held) < count:
        some = []
        for _ in range(min(100, count - len(held))):
            stream = socket.create_connection(("127.0.0.1", port), 5)
            stream.sendall(REQUEST)
            some.append(stream)
        for stream in some:
            answer = b""
            while b"\r\n\r\n" not in answer or len(answer) < answer.index(b"\r\n\r\n") + 4 + 128:
                piece = stream.recv(4096)
                if not piece:
                    raise OSError("closed before its answer was whole")
                answer += piece
            if b" 200 " not in answer.split(b"\r\n", 1)[0]:
                raise OSError(f"answered {answer[:40]!r}")
        held += some


def is_open(stream):
    """Whether the other end has not closed."""
    stream.setblocking(False)
    try:
        return stream.recv(1, socket.MSG_PEEK) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False


def is_measured(peer):
    """A relay has an upstream connection for each client's, and idles otherwise than a gateway."""
    return not peer.is_relay


def is_ours(peer):
    return peer.name == RINGGATE
