"""Scaling by counting: what a request costs as workers grow in number on the same core, and how evenly connections fall.

A machine of two cores cannot show eight. What it can show is that a worker's work does not depend on how many others there
are: 1, 2, 4 and 8 workers share core 0, and CPU time per request should stay about what it is, but for the batches that get
smaller. And it can count which worker gets which connection, by the kernel's hash and by source address.
"""

import argparse
import json
import pathlib
import re
import statistics
import sys
import tempfile
import time
import urllib.request

from . import lines, load, report, summary, system
from .cases import Case
from .proxies import BY_NAME, RINGGATE, Instance

WORKERS = (1, 2, 4, 8)
CONNECTIONS = (64, 1024)
RATIO = re.compile(r'^ringgate_worker_imbalance_ratio\{[^}]*\} ([0-9.]+)$', re.MULTILINE)


def case(connections, more=()):
    return Case(f"workers-{connections}", f"{connections} connections", "scaling", (), ("-c", str(connections), *more))


def cost(folder, upstream, rounds, seconds):
    """CPU time per request by number of workers on core 0, and of one and two workers on both cores."""
    rows = []
    settings = [(workers, "0") for workers in WORKERS] + [(1, "0,1"), (2, "0,1")]
    instances = {
        setting: Instance(BY_NAME[RINGGATE], frozenset(), folder / f"{setting[0]}-{setting[1]}", upstream, setting[1], setting[0])
        for setting in settings
    }
    try:
        for setting, instance in instances.items():
            wrong = instance.wait()
            if wrong:
                raise load.LoadError(f"{setting}: {wrong}")
        for number in range(rounds):
            for connections in CONNECTIONS:
                for workers, cores in settings[number % len(settings) :] + settings[: number % len(settings)]:
                    row = load.measure(instances[workers, cores], case(connections), seconds)
                    rows.append({"round": number, "workers": workers, "cores": cores, "connections": connections, **row})
            print(f"round {number + 1} of {rounds}", file=sys.stderr)
    finally:
        for instance in instances.values():
            instance.end()
    return rows


def balance(folder, upstream, steer, connections, sources):
    """How evenly connections fall on 8 workers: the gateway's own metric after `connections` new ones."""
    instance = Instance(BY_NAME[RINGGATE], frozenset({"steer_" + steer}), folder, upstream, "0", 8)
    try:
        wrong = instance.wait()
        if wrong:
            raise load.LoadError(wrong)
        more = ("--no-keepalive", "-n", str(connections))
        if sources:
            more += ("--keys", f"uniform:{sources}", "--key-as", "source")
        load.measure(instance, case(16, more), 30)
        with urllib.request.urlopen(f"http://127.0.0.1:{instance.place.values['admin']}/metrics", timeout=5) as answer:
            text = answer.read().decode()
        found = RATIO.search(text)
        return {"steer": steer, "connections": connections, "sources": sources or 1, "imbalance": float(found.group(1)) if found else None}
    finally:
        instance.end()


def text(result):
    """The page of a run."""
    about, options = result["environment"], result["options"]
    out = [
        f"# Scaling, shown by counting, {about['date'][:10]}\n",
        f"Made by `{options['command']}` at commit {about['commit']}: {options['rounds']} interleaved rounds of {options['seconds']} s; "
        "128 B answers, two limits and metrics on, log off. `raw.json` has every round.\n",
        "The machine has two cores, so more workers than one share core 0 here: this shows whether the work of a request grows with "
        "the number of workers, not how much more they do together. Fewer requests are in each worker's batch as workers grow in "
        "number, which costs system calls; with 1,024 connections the batches stay large.\n",
        "## CPU time per request\n",
        "| workers | cores | connections | CPU µs per request | x one worker | requests/s |",
        "|---|---|---|---|---|---|",
    ]
    for connections in CONNECTIONS:
        one = None
        for workers, cores in dict.fromkeys((row["workers"], row["cores"]) for row in result["rounds"]):
            rows = [
                row for row in result["rounds"] if (row["workers"], row["cores"], row["connections"]) == (workers, cores, connections)
            ]
            found = summary.spread(row["cpu_us"] for row in rows)
            one = found["median"] if workers == 1 else one
            rate = statistics.median(row["rate"] for row in rows)
            where = "0" if cores == "0" else "0 and 1, beside the generator"
            out.append(
                f"| {workers} | {where} | {connections:,} | {found['median']:.1f} ({found['min']:.1f} to {found['max']:.1f}) "
                f"| {found['median'] / one:.2f} | {rate:,.0f} |"
            )
    out += [
        "\n## Balance of connections over 8 workers\n",
        "`ringgate_worker_imbalance_ratio`: connections of the busiest worker over the mean; 1 is even, 8 is all on one. The kernel's "
        "hash is random, so the busiest of 8 has more than the mean by about the square root of it; steering by source keeps a client "
        "on one worker, and so puts one client's connections all on one.\n",
        "| steer | new connections | clients | imbalance |",
        "|---|---|---|---|",
    ]
    for row in result["balance"]:
        out.append(f"| {row['steer']} | {row['connections']:,} | {row['sources']:,} | {row['imbalance']:.2f} |")
    apart, same = result["lines"]["apart"], result["lines"]["same"]
    requests = result["lines"]["requests"]
    out += [
        "\n## Cache lines that two workers write\n",
        f"The memory of a gateway with two workers, compared by lines of 64 bytes after {requests} requests to one of them and one "
        f"under way, then the same with the other: the first changed {apart['lines_of_each'][0]} lines, the second "
        f"{apart['lines_of_each'][1]}, and {len(apart['lines_of_both'])} were changed by both. Of two connections to one worker, "
        f"{len(same['lines_of_both'])} were. There are two limits, which both see one client: a slot each. The count of an "
        "endpoint changes with its connections, which are kept from request to request.\n",
        *(f"- {place}" for place in apart["lines_of_both"]),
    ]
    facts = "".join(f"| {name} | {value} |\n" for name, value in about.items())
    return "\n".join(out) + f"\n\n## Environment\n\n| | |\n|---|---|\n{facts}"


def main(words=None):
    parser = argparse.ArgumentParser(prog="bench/peers/scaling", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.5)
    parser.add_argument("--out", type=pathlib.Path, help="the folder")
    parser.add_argument("--lines", action="store_true", help="only the cache lines that two workers change, as JSON")
    parser.add_argument("--programs", type=pathlib.Path, help="where ringgate and ringgate-load are [default: target/release]")
    options = parser.parse_args(words)
    if options.programs:
        system.OURS = options.programs.resolve()
    if not options.lines and not options.out:
        parser.error("--out says where the results go")
    if not system.program("ringgate") or not system.program("ringgate-load"):
        parser.error("not built: make build")
    system.raise_files()
    about = system.environment()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="scaling-") as folder:
        folder = pathlib.Path(folder)
        upstream = load.Upstream(folder)
        try:
            shared = lines.measure(folder / "lines", upstream.address)
            if options.lines:
                print(json.dumps(shared, indent=1))
                return 0
            rows = cost(folder, upstream.address, options.rounds, options.seconds)
            found = [
                balance(folder / f"{steer}-{sources}", upstream.address, steer, 4000, sources)
                for steer in ("hash", "source_ip")
                for sources in (0, 1000)
            ]
        finally:
            upstream.end()
    result = {
        "environment": about,
        "options": {"rounds": options.rounds, "seconds": options.seconds, "command": f"bench/peers/scaling --rounds {options.rounds} --seconds {options.seconds:g}"},
        "took_s": time.monotonic() - began,
        "rounds": rows,
        "balance": found,
        "lines": shared,
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "raw.json").write_text(report.compact(result))
    (options.out / "README.md").write_text(text(result))
    print((options.out / "README.md").read_text())
    return 0


