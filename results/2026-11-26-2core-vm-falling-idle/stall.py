#!/usr/bin/env python3
"""stall.py PROGRAM CONNECTIONS REQUESTS: latency of 2,000 requests a second on 64 connections while CONNECTIONS others, each of which
made REQUESTS requests one after the other, fall idle at once. One worker on core 0, load on core 1."""
import json, os, resource, socket, subprocess, sys, tempfile, time, pathlib
program, count, requests = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
LOAD = os.environ.get("RINGGATE_LOAD", "ringgate-load")
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]; resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
def port():
    with socket.socket() as s: s.bind(("127.0.0.1", 0)); return s.getsockname()[1]
gate, admin = port(), port()
with tempfile.TemporaryDirectory() as d:
    file = pathlib.Path(d) / "c.toml"
    file.write_text(f'''version = 1
[runtime]
workers = 1
[admin]
listen = "127.0.0.1:{admin}"
[log.access]
path = "off"
[[listeners]]
name = "web"
address = "127.0.0.1:{gate}"
max_connections = 20000
max_connections_per_client = 20000
[[routes]]
name = "all"
respond = {{ status = 200, body = "ok" }}
''')
    p = subprocess.Popen(["taskset", "-c", "0", program, "run", "-c", str(file)], stdout=subprocess.DEVNULL, stderr=open(d + "/err", "w"))
    try:
        for _ in range(100):
            try: socket.create_connection(("127.0.0.1", gate), 1).close(); break
            except OSError: time.sleep(.05)
        os.sched_setaffinity(0, {1})
        ask = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
        ticks = lambda: sum(map(int, open(f"/proc/{p.pid}/stat").read().rsplit(") ", 1)[1].split()[11:13]))
        load = lambda seconds: subprocess.run([LOAD, "-t", "1", "-c", "64", "-r", "2000", "-d", f"{seconds}s", "--live", "never", "--json", "-", f"http://127.0.0.1:{gate}/"], capture_output=True, text=True)
        all_ = []
        for i in range(count):
            s = socket.create_connection(("127.0.0.1", gate), 5); all_.append(s)
        for _ in range(requests):
            for s in all_: s.sendall(ask)
            for s in all_:
                got = b""
                while not got.endswith(b"ok"): got += s.recv(4096)
        before = ticks()
        first = load(4); middle = ticks(); rest = load(4); after = ticks()
        out = {}
        for name, run, spent in (("while they fall idle", first, middle - before), ("afterwards", rest, after - middle)):
            j = json.loads(run.stdout); l = j["latency_from_intended"]
            out[name] = {"latency_us": {k: l[k] for k in l if k in ("p50","p90","p99","p99_9","max","p50_us","p99_us","max_us")} or {k: l[k] for k in list(l)[:9]}, "cpu_s": spent / 100}
        rss = next(int(l.split()[1]) for l in open(f"/proc/{p.pid}/status") if l.startswith("VmRSS"))
        print(json.dumps({"program": program.split("/")[-2], "connections": count, "requests": requests, "rss_kib_at_the_end": rss, **out}))
    finally:
        p.terminate(); p.wait()
