"""The command line: what to run, how long that takes, and where it goes."""

import argparse
import pathlib
import shlex
import socket
import sys
import time

from . import report, system
from .cases import IDLE, KEYS_OF_CASES, chosen
from .load import PROXY_CORE
from .proxies import BY_NAME, PEERS, RINGGATE, RINGGATE_PGO
from .session import Session, estimate_seconds

DEFAULT_ROUNDS, DEFAULT_SECONDS = 5, 1.8
QUICK = {"rounds": 2, "seconds": 1.0, "cases": "keep-alive-128,refused", "peers": "ringgate,nginx"}
DESCRIPTION = """\
Measures ringgate beside other gateways on the same work and writes raw data, tables, plots and a README.

First: make build && bench/peers/install (make peers does both, and runs this with its defaults).
Each gateway has one worker on core 0, the generator and its upstream are on core 1; CPU time per request is the figure.
"""


def arguments(words):
    parser = argparse.ArgumentParser(prog="bench/peers/run", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", help=f"with commas between [default: all]: {', '.join(KEYS_OF_CASES)}")
    parser.add_argument("--peers", help=f"with commas between [default: all]: {', '.join(name.replace(', ', '-').replace(' ', '-') for name in BY_NAME)}")
    parser.add_argument("--rounds", type=int, help=f"interleaved, each begun by another gateway [default: {DEFAULT_ROUNDS}]")
    parser.add_argument("--seconds", type=float, help=f"of a measurement; open loops take half as long again [default: {DEFAULT_SECONDS:g}]")
    parser.add_argument("--network", choices=("loopback", "veth", "both"), default="both", help="where the upstream is; veth needs root [default: both]")
    parser.add_argument("--out", type=pathlib.Path, help="the folder [default: results/DATE-HOST-peers]")
    parser.add_argument("--programs", type=pathlib.Path, help="where ringgate and ringgate-load are [default: target/release]")
    parser.add_argument("--quick", action="store_true", help="two rounds of a second, ringgate and nginx, two cases, on loopback")
    parser.add_argument("--estimate", action="store_true", help="say how long it would take, and end")
    parser.add_argument("--list", action="store_true", help="say which cases and gateways there are, and end")
    options = parser.parse_args(words)
    if options.quick:
        options.rounds = options.rounds or QUICK["rounds"]
        options.seconds = options.seconds or QUICK["seconds"]
        options.cases = options.cases or QUICK["cases"]
        options.peers = options.peers or QUICK["peers"]
        options.network = "loopback"
    options.rounds = options.rounds or DEFAULT_ROUNDS
    options.seconds = options.seconds or DEFAULT_SECONDS
    if options.rounds < 1 or options.seconds < 0.2:
        parser.error("at least one round of 0.2 s")
    if options.programs:
        system.OURS = options.programs.resolve()
    options.cases = _names(parser, "case", options.cases, KEYS_OF_CASES)
    options.peers = _names(parser, "gateway", options.peers, list(BY_NAME))
    options.networks = ("loopback", "veth") if options.network == "both" else (options.network,)
    options.out = options.out or system.ROOT / "results" / f"{time.strftime('%Y-%m-%d')}-{socket.gethostname().split('.')[0]}-peers"
    return options


def _names(parser, what, text, known):
    """The chosen names in the order known. Spaces in a name may be written as hyphens."""
    if text is None:
        return list(known)
    plain = {name.replace(" ", "-").lower(): name for name in known}
    chosen_names = set()
    for word in filter(None, text.split(",")):
        name = plain.get(word.strip().replace(" ", "-").lower())
        if name is None:
            parser.error(f"no {what} {word}; there are {', '.join(plain)}")
        chosen_names.add(name)
    return [name for name in known if name in chosen_names]


def main(words=None):
    options = arguments(sys.argv[1:] if words is None else words)
    if options.list:
        for case in chosen(KEYS_OF_CASES, list(BY_NAME), ("loopback", "veth")):
            print(f"{case.key:22} {case.title}: {', '.join(one.label for one in case.contenders)}")
        return 0
    skipped, peers = [], []
    for name in options.peers:
        peer = BY_NAME[name]
        if peer.binary():
            peers.append(peer)
        else:
            builds = {RINGGATE: "make build", RINGGATE_PGO: "make pgo"}
            why = f"not built: {builds[name]}" if name in builds else "not installed: bench/peers/install"
            print(f"SKIP  {name}: {why}", file=sys.stderr)
            skipped.append({"what": name, "why": why})
    cases = chosen(options.cases, [peer.name for peer in peers], options.networks)
    took = estimate_seconds(cases, peers, options)
    print(f"{len(cases)} cases, {len(peers)} gateways, {options.rounds} rounds of {options.seconds:g} s: about {took / 60:.0f} minutes", file=sys.stderr)
    if options.estimate:
        return 0
    if not system.program("ringgate-load"):
        print("ringgate-load is not built: make build", file=sys.stderr)
        return 2
    if (system.os.cpu_count() or 1) < 2:
        print("two cores are needed: one for the gateway, one for the generator and its upstream", file=sys.stderr)
        return 2
    result = run(cases, peers, options, skipped)
    report.write(options.out, result)
    print((options.out / "README.md").read_text() if options.quick else f"written to {options.out}")
    wrong = sum(bool(row["wrong"]) for row in result["checks"])
    print(f"{len(result['rounds'])} measurements, {wrong} wrong answers, {len(result['skipped'])} skipped", file=sys.stderr)
    return 0 if result["rounds"] or result["idle"] else 1


def run(cases, peers, options, skipped):
    """Runs it all; the tree of `raw.json`."""
    files = system.raise_files()
    about = system.environment()
    session = Session(cases, peers, options)
    session.result["skipped"] += skipped
    began = time.monotonic()
    result = session.run()
    words = ["bench/peers/run", *sys.argv[1:]]
    if any(word == "--out" for word in words):
        at = words.index("--out")
        words[at + 1] = f"results/{pathlib.Path(words[at + 1]).name}"
    result |= {
        "environment": {**about, "files": files, "gateway_core": PROXY_CORE},
        "versions": {peer.name: peer.said_version() for peer in peers},
        "options": {"rounds": options.rounds, "seconds": options.seconds, "command": shlex.join(words), "idle": IDLE in options.cases},
        "took_s": time.monotonic() - began,
        "peers": [peer.name for peer in PEERS],
    }
    return result
