"""Before anything is measured: does each gateway answer as the upstream does, and does it limit by client?"""

import hashlib
import http.client
import socket

PIPELINED = 8
TRIES = 40
TIMEOUT = 5


def exchange(port, path, body=None, source="127.0.0.1", close=False, host="127.0.0.1", more=()):
    """Status, length and hash of the answer's body, and what the upstream says of the request's body. `more`: field lines."""
    connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT, source_address=(source, 0))
    try:
        fields = {"X-Client": "1", **({"Connection": "close"} if close else {}), **dict(line.split(": ", 1) for line in more)}
        connection.request("POST" if body is not None else "GET", path, body=body, headers=fields)
        answer = connection.getresponse()
        data = answer.read()
        return {
            "status": answer.status,
            "bytes": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
            "body_seen": answer.getheader("X-Body-Bytes"),
        }
    finally:
        connection.close()


def pipelined(port, path, count=PIPELINED):
    """How many whole answers come to `count` requests sent at once."""
    request = f"GET {path} HTTP/1.1\r\nHost: a\r\nX-Client: 1\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", port), TIMEOUT) as stream:
        stream.sendall(request * count)
        with stream.makefile("rb") as reader:
            return sum(_whole_answer(reader) for _ in range(count))


def _whole_answer(reader):
    if b" 200 " not in reader.readline():
        return 0
    length = None
    while (line := reader.readline()) not in (b"\r\n", b""):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    return int(length is not None and len(reader.read(length)) == length)


def answers(instance, case, upstream):
    """What is wrong with the gateway's answer to the request of a case; None if it is the upstream's."""
    try:
        if case.status != 200:
            return None
        body = b"x" * case.body_bytes if case.body_bytes else None
        host, _, port = upstream.rpartition(":")
        wanted = exchange(int(port), case.path, body, source="", host=host) if ":" in upstream else None
        close = "--no-keepalive" in case.load
        more = [value for option, value in zip(case.load, case.load[1:]) if option == "-H"]
        got = exchange(instance.port, case.path, body, close=close, more=more)
        if wanted and got != wanted:
            return f"answered {got}, the upstream {wanted}"
        if got["status"] != 200 or (body and got["body_seen"] != str(len(body))):
            return f"answered {got}"
        if "--pipeline" in case.load:
            whole = pipelined(instance.port, case.path)
            if whole != PIPELINED:
                return f"{whole} of {PIPELINED} pipelined requests were answered"
    except (OSError, http.client.HTTPException) as error:
        return f"{type(error).__name__}: {error}"
    return None


def limits(instance):
    """Of an instance whose limit is tiny: whether client A is refused, and client B is not because of A."""
    try:
        seen = [exchange(instance.port, "/bytes/128")["status"] for _ in range(TRIES)]
        other = exchange(instance.port, "/bytes/128", source="127.0.0.2")["status"]
    except (OSError, http.client.HTTPException) as error:
        return {"refuses_a": False, "spares_b": False, "error": f"{type(error).__name__}: {error}"}
    return {"refuses_a": 429 in seen, "spares_b": other == 200, "error": None}
