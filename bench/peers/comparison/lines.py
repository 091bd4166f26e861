"""Which cache lines two workers both change: the memory of a running gateway, compared line by line.

The gateway is stopped for each look, so that a look is of one moment. Between two looks one worker alone serves requests;
lines that change while neither does are the process's own (its clock, its sweeper) and are left out. A count that goes up and
down again looks unchanged when all is quiet, so the last look of each worker is taken while a request is under way.
"""

import os
import pathlib
import re
import signal
import socket
import time
import urllib.request

from . import load
from .proxies import BY_NAME, RINGGATE, Instance

LINE = 64
REQUESTS = 300
# Longer than anything that a worker does once in a while.
QUIET_SECONDS = 1.2
CONNECTIONS_MAX = 64
GAUGE = re.compile(r'^ringgate_connections\{listener="web",worker="(\d)"\} (\d+)$', re.MULTILINE)
REQUEST = b"GET %s HTTP/1.1\r\nHost: a\r\nX-Client: 7\r\n\r\n"


def look(pid):
    """{(first address, name): bytes} of all memory that the process may write, at one moment."""
    os.kill(pid, signal.SIGSTOP)
    try:
        _until_stopped(pid)
        found, stacks = {}, stack_pointers(pid)
        with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
            for line in pathlib.Path(f"/proc/{pid}/maps").read_text().splitlines():
                words = line.split(maxsplit=5)
                name = words[5] if len(words) > 5 else "anonymous"
                # Rings are one worker's and the kernel's; stacks are one thread's.
                if "w" not in words[1] or "io_uring" in name or name.startswith("[v"):
                    continue
                first, last = (int(part, 16) for part in words[0].split("-"))
                if any(first <= pointer < last for pointer in stacks):
                    continue
                memory.seek(first)
                try:
                    found[first, name] = memory.read(last - first)
                except OSError:
                    continue
        return found
    finally:
        os.kill(pid, signal.SIGCONT)


def stack_pointers(pid):
    """Of each thread, where it is on its stack; the thread's own variables lie in the same mapping."""
    found = []
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        words = (task / "syscall").read_text().split()
        if len(words) >= 3:
            found.append(int(words[-2], 16))
    return found


def _until_stopped(pid):
    for _ in range(500):
        states = [(task / "stat").read_text().rsplit(")", 1)[1].split()[0] for task in pathlib.Path(f"/proc/{pid}/task").iterdir()]
        if all(state == "T" for state in states):
            return
        time.sleep(0.002)
    raise OSError("the gateway does not stop")


def changed(before, after):
    """Addresses of lines that differ."""
    lines = set()
    for (first, name), old in before.items():
        new = after.get((first, name))
        if new is None or new == old:
            continue
        for block in range(0, min(len(old), len(new)), 4096):
            if old[block : block + 4096] != new[block : block + 4096]:
                for at in range(block, min(block + 4096, len(old), len(new)), LINE):
                    if old[at : at + LINE] != new[at : at + LINE]:
                        lines.add(first + at)
    return lines


def where(looked, address):
    """The mapping of an address, by name and size."""
    for (first, name), data in looked.items():
        if first <= address < first + len(data):
            return f"{pathlib.Path(name).name} of {len(data) // 1024:,} KiB, at {address - first:#x}"
    return "nowhere"


class Client:
    """One connection, kept, that asks one thing at a time."""

    def __init__(self, port):
        self.stream = socket.create_connection(("127.0.0.1", port), 10)

    def send(self, path):
        self.stream.sendall(REQUEST % path.encode())

    def receive(self):
        answer = b""
        while b"\r\n\r\n" not in answer or len(answer) < answer.index(b"\r\n\r\n") + 4 + 128:
            piece = self.stream.recv(4096)
            if not piece:
                raise OSError("closed before its answer was whole")
            answer += piece

    def ask(self, count):
        for _ in range(count):
            self.send("/bytes/128")
            self.receive()


def both_change(pid, clients, requests=REQUESTS):
    """Lines that are changed for two clients in turn: how many for each, and where those are that are changed for both."""
    for client in clients:
        client.ask(requests)
    time.sleep(QUIET_SECONDS)
    first = look(pid)
    time.sleep(QUIET_SECONDS)
    last = look(pid)
    background = changed(first, last)
    own = [None, None]
    # Twice, and only what changed each time: a timer that fires once in a while is not the path.
    for _ in range(2):
        for number, client in enumerate(clients):
            client.ask(requests)
            client.send("/delay/600")
            time.sleep(0.2)
            now = look(pid)
            lines = changed(last, now)
            own[number] = lines if own[number] is None else own[number] & lines
            client.receive()
            # The end of a request comes a little after its last byte, and is of the path.
            time.sleep(0.2)
            after = look(pid)
            time.sleep(QUIET_SECONDS)
            last = look(pid)
            # What a worker does by itself for a while after requests.
            background |= changed(after, last)
    own = [lines - background for lines in own]
    return {
        "background_lines": len(background),
        "lines_of_each": [len(lines) for lines in own],
        "lines_of_both": sorted(where(last, address) for address in own[0] & own[1]),
    }


def measure(folder, upstream):
    """Of a gateway with two workers: lines changed for clients of different workers, and, to see that lines are found at all,
    for two of the same one. There is one upstream with one endpoint, and both limits see one client."""
    instance = Instance(BY_NAME[RINGGATE], frozenset(), folder, upstream, "0,1", 2)
    try:
        wrong = instance.wait()
        if wrong:
            raise load.LoadError(wrong)
        clients = clients_by_worker(instance)
        apart = both_change(instance.pid, [clients[0][0], clients[1][0]])
        same = both_change(instance.pid, clients[0][:2])
        return {"apart": apart, "same": same, "requests": REQUESTS}
    finally:
        instance.end()


def clients_by_worker(instance):
    """Two clients on worker 0 and one on worker 1, by the gateway's own gauge."""
    url = f"http://127.0.0.1:{instance.place.values['admin']}/metrics"

    def open_connections():
        with urllib.request.urlopen(url, timeout=5) as answer:
            return {int(worker): int(count) for worker, count in GAUGE.findall(answer.read().decode())}

    found = {0: [], 1: []}
    before = open_connections()
    for _ in range(CONNECTIONS_MAX):
        client = Client(instance.port)
        client.ask(1)
        now = open_connections()
        grown = [worker for worker, count in now.items() if count > before[worker]]
        if len(grown) == 1:
            found[grown[0]].append(client)
        before = now
        if len(found[0]) >= 2 and found[1]:
            return found
    raise load.LoadError("all connections went to one worker")
