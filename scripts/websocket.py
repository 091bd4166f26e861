"""Runs the Autobahn cases directly and through the gateway, and compares them case by case. See scripts/websocket."""

import asyncio
import collections
import contextlib
import json
import os
import pathlib
import subprocess
import sys
import threading

import websockets

PROGRAM = os.environ.get("RINGGATE", "target/release/ringgate")
DRIVERS = ("io_uring", "epoll")
# How many cases run at once: those about time need the machine.
PARALLELISM = 4
CONFIG = """
version = 1
[runtime]
driver = "{driver}"
workers = 2
[admin]
listen = "off"
[log.access]
path = "off"
[[listeners]]
name = "web"
address = "127.0.0.1:0"
[upstreams.echo]
endpoints = [{{ address = "127.0.0.1:{port}" }}]
[[routes]]
name = "all"
upstream = "echo"
upgrade = ["websocket"]
"""


class Echo:
    """An echo server on a thread of its own."""

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        self.ready = threading.Event()
        threading.Thread(target=self.loop.run_until_complete, args=(self.serve(),), daemon=True).start()
        self.ready.wait(10)

    async def serve(self):
        async def echo(connection):
            with contextlib.suppress(websockets.ConnectionClosed):
                async for message in connection:
                    await connection.send(message)

        # The cases send up to 16 MiB in a message.
        async with websockets.serve(echo, "127.0.0.1", 0, max_size=64 << 20, ping_interval=None) as server:
            self.port = server.sockets[0].getsockname()[1]
            self.ready.set()
            await asyncio.get_running_loop().create_future()


@contextlib.contextmanager
def gateway(work, driver, port):
    """A gateway before the echo server; gives the port where it listens."""
    file = work / f"{driver}.toml"
    file.write_text(CONFIG.format(driver=driver, port=port))
    process = subprocess.Popen([PROGRAM, "run", "-c", file], stderr=subprocess.PIPE, text=True)
    try:
        for line in process.stderr:
            if " info  listening address=" in line:
                address = line.split("address=")[1].split()[0]
            if " info  serving " in line:
                break
        else:
            sys.exit("websocket: the gateway did not start")
        # So that it never waits for a reader.
        threading.Thread(target=process.stderr.read, daemon=True).start()
        yield int(address.rsplit(":", 1)[1])
    finally:
        process.terminate()
        process.wait()


def run(work, name, port, cases):
    """Verdicts by case: of the exchange and of the close."""
    folder = work / name
    chosen = [word for case in cases for word in ("-i", case)]
    kosoku = pathlib.Path(sys.executable).parent / "kosoku"
    command = [kosoku, "-p", str(PARALLELISM), "-o", folder, *chosen, f"127.0.0.1:{port}"]
    with (work / f"{name}.log").open("w") as log:
        subprocess.run(command, stdout=log, stderr=log, check=False)
    agents = json.loads((folder / "index.json").read_text())
    (verdicts,) = agents.values()
    return {case: (each["behavior"], each["behaviorClose"]) for case, each in verdicts.items()}


def main():
    work, cases = pathlib.Path(sys.argv[1]), sys.argv[2:]
    echo = Echo()
    results = {"direct": run(work, "direct", echo.port, cases)}
    for driver in DRIVERS:
        with gateway(work, driver, echo.port) as port:
            results[driver] = run(work, driver, port, cases)

    direct = results["direct"]
    table = collections.defaultdict(lambda: collections.Counter())
    differ = []
    for case, verdict in direct.items():
        group = table[case.split(".")[0]]
        group["cases"] += 1
        group["direct"] += verdict[0] in ("OK", "INFORMATIONAL", "NON-STRICT")
        for driver in DRIVERS:
            same = results[driver].get(case) == verdict
            group[driver] += same
            if not same:
                differ.append(f"{case}: {verdict} directly, {results[driver].get(case)} on {driver}")
    lines = ["| cases | number | good directly | the same through the gateway, io_uring | epoll |", "|---|---|---|---|---|"]
    total = collections.Counter()
    for name, group in [*sorted(table.items(), key=lambda item: int(item[0])), ("**all**", total)]:
        lines.append(f"| {name} | {group['cases']} | {group['direct']} | {group['io_uring']} | {group['epoll']} |")
        if group is not total:
            total.update(group)
    (work / "table.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    for line in differ:
        print("websocket:", line)
    if differ or not direct:
        sys.exit(f"websocket: {len(differ)} of {len(direct)} cases differ")
    print(f"websocket: {len(direct)} cases end as they do directly")


main()
