"""A whole run: groups of instances, checks, rounds in turn, and what came of it as one tree for `raw.json`."""

import dataclasses
import pathlib
import statistics
import sys
import tempfile
import time

from . import checks, idle, load, system
from .cases import IDLE, OVERLOAD, ROUTES, ZIPF, ZIPF_SHARE, Case, Contender
from .proxies import BY_NAME, RINGGATE, Instance

# Start and checks of one instance.
START_SECONDS = 1.2


class Session:
    """Runs cases and keeps what they gave."""

    def __init__(self, cases, peers, options):
        self.cases, self.peers, self.options = cases, peers, options
        self.result = {"rounds": [], "checks": [], "limits": [], "idle": [], "logs": [], "skipped": [], "notes": []}
        self.began = time.monotonic()
        self.done = 0
        self.todo = sum(self.rounds_of(case) * len(case.contenders) for case in cases)

    def rounds_of(self, case):
        return self.options.rounds * case.more

    def skip(self, what, why):
        """Loudly, and counted at the end."""
        print(f"SKIP  {what}: {why}", file=sys.stderr)
        self.result["skipped"].append({"what": what, "why": why})

    def say(self, text):
        took = time.monotonic() - self.began
        share = f"{100 * self.done // max(1, self.todo):3d} %"
        line = f"{int(took) // 60:3d}:{int(took) % 60:02d} {share}  {text}"
        if sys.stderr.isatty():
            print(f"\r\033[K{line[:118]}", end="", file=sys.stderr, flush=True)
        else:
            print(line, file=sys.stderr, flush=True)

    def run(self):
        with tempfile.TemporaryDirectory(prefix="peers-") as folder:
            folder = pathlib.Path(folder)
            body = {size: folder / f"body-{size}" for size in {case.body_bytes for case in self.cases} if size}
            for size, path in body.items():
                path.write_bytes(b"x" * size)
            self.bodies = body
            try:
                # What takes a while and is done once, first: a run that is cut short lacks rounds, not cases.
                if IDLE in self.options.cases:
                    self._idle(folder / "idle-cases")
                for network in dict.fromkeys(case.network for case in self.cases):
                    self._network(network, folder / network)
            except KeyboardInterrupt:
                self.skip("what was left", "interrupted")
        if sys.stderr.isatty():
            print(file=sys.stderr)
        return self.result

    def _network(self, network, folder):
        folder.mkdir()
        namespace = upstream = None
        try:
            if network == "veth":
                namespace = load.Namespace(f"peers-{time.time_ns() % 100000000}")
            upstream = load.Upstream(folder, namespace)
            for group in dict.fromkeys(case.group for case in self.cases if case.network == network):
                own = [case for case in self.cases if case.network == network and case.group == group]
                self._group(own, folder / group, upstream)
        except load.LoadError as error:
            self.skip(f"the cases over {network}", str(error))
        finally:
            if upstream:
                upstream.end()
            if namespace:
                namespace.end()

    def _group(self, cases, folder, upstream):
        wanted = dict.fromkeys((one.peer, one.flags) for case in cases for one in case.contenders)
        instances = {}
        try:
            for number, (name, flags) in enumerate(wanted):
                what = f"{name} ({', '.join(sorted(flags)) or 'plain'})"
                if "unix" in flags and not upstream.has_unix():
                    self.skip(what, "ringgate-load upstream does not listen on a Unix socket")
                    continue
                self.say(f"starting {what}")
                address = str(upstream.socket) if "unix" in flags else upstream.address
                instance = Instance(BY_NAME[name], flags, folder / str(number), address)
                instances[name, flags] = instance
                wrong = instance.wait()
                if wrong:
                    self.skip(what, wrong)
                    instances.pop((name, flags)).end()
            self._check(cases, instances, upstream)
            rate = self._zipf_rate(cases, instances)
            for case in cases:
                for one in self._in(case, instances):
                    self._measure(case, one, instances, 0.5, rate)
            for number in range(max(self.rounds_of(case) for case in cases)):
                for case in cases:
                    if number < self.rounds_of(case):
                        self._round(number, case, instances, rate)
        finally:
            self._end(instances)

    def _in(self, case, instances):
        return [one for one in case.contenders if (one.peer, one.flags) in instances]

    def _check(self, cases, instances, upstream):
        """Whoever answers a case wrongly is left out of it."""
        for index, case in enumerate(cases):
            for one in self._in(case, instances):
                wrong = checks.answers(instances[one.peer, one.flags], case, upstream.address)
                self.result["checks"].append({"case": case.key, "proxy": one.label, "wrong": wrong})
                if wrong:
                    self.skip(f"{one.label} in {case.key}", wrong)
                    left = tuple(other for other in case.contenders if other != one)
                    case = cases[index] = _with(case, left)
        for (name, flags), instance in instances.items():
            if "refuse" in flags:
                found = checks.limits(instance)
                self.result["limits"].append({"proxy": name, "kind": BY_NAME[name].limits, **found})
            elif "refuse" not in BY_NAME[name].can and not any(row["proxy"] == name for row in self.result["limits"]):
                none = {"refuses_a": False, "spares_b": True, "error": None}
                self.result["limits"].append({"proxy": name, "kind": BY_NAME[name].limits, **none})

    def _zipf_rate(self, cases, instances):
        """60 % of the rate at which we saturate, here and now: what is answered of more than we can take, in an open loop.

        A closed loop sends in batches, which is cheaper: 60 % of its rate may be more than an open loop can have answered.
        """
        open_cases = [case for case in cases if case.rate < 0]
        own = instances.get((RINGGATE, ROUTES))
        if not open_cases or own is None:
            return None
        contender = (Contender(RINGGATE, ROUTES),)
        group = open_cases[0].group
        closed = Case("zipf-closed", "closed loop, zipf keys", group, contender, ("-c", "64", *ZIPF))
        too_much = load.measure(own, closed, self.options.seconds)["rate"] * OVERLOAD
        overload = dataclasses.replace(open_cases[0], key="zipf-saturation", contenders=contender)
        rates = [load.measure(own, overload, self.options.seconds, too_much)["rate"] for _ in range(3)]
        rate = statistics.median(rates) * ZIPF_SHARE
        self.result["zipf"] = {"offered": too_much, "saturation_rates": rates, "share": ZIPF_SHARE, "rate": rate}
        return rate

    def _measure(self, case, one, instances, seconds, rate):
        instance = instances[one.peer, one.flags]
        rate = rate if case.rate < 0 else None
        row = load.measure(instance, case, seconds, rate, self.bodies.get(case.body_bytes))
        instance.answered += row["answered"]
        return row

    def _end(self, instances):
        """Ends them; of those with a log, whether it has a line for each answer."""
        for (name, flags), instance in instances.items():
            instance.end()
            if "log" in flags:
                lines = instance.log_lines()
                self.result["logs"].append({"proxy": name, "answered": instance.answered, "lines": lines})

    def _round(self, number, case, instances, rate):
        names = self._in(case, instances)
        begin = number % max(1, len(names))
        for one in names[begin:] + names[:begin]:
            self.say(f"round {number + 1}: {case.title}: {one.label}")
            self.done += 1
            try:
                row = self._measure(case, one, instances, self.options.seconds * case.times, rate)
            except load.LoadError as error:
                self.skip(f"{one.label} in {case.key}, round {number + 1}", str(error))
                continue
            self.result["rounds"].append({"round": number, "case": case.key, "proxy": one.label, **row})

    def _idle(self, folder):
        folder.mkdir()
        upstream = load.Upstream(folder)
        try:
            for number, peer in enumerate(filter(idle.is_measured, self.peers)):
                found = idle.measure(peer, folder / str(number), upstream.address, self.options.seconds, self.say)
                if found["error"]:
                    self.skip(f"{peer.name} in {IDLE}", found["error"])
                self.result["idle"].append(found)
                if idle.is_ours(peer):
                    self.result["own_at_rest"] = idle.own_at_rest(peer, folder / "own", upstream.address)
        finally:
            upstream.end()


def _with(case, contenders):
    return dataclasses.replace(case, contenders=contenders)


def estimate_seconds(cases, peers, options):
    """How long a run takes, from what is known before it."""
    total = 0.0
    for case in cases:
        one = options.seconds * case.times + load.OVERHEAD_SECONDS
        total += len(case.contenders) * (options.rounds * case.more * one + 0.5 + load.OVERHEAD_SECONDS)
    starts = {(case.network, case.group, one.peer, one.flags) for case in cases for one in case.contenders}
    total += START_SECONDS * len(starts)
    if IDLE in options.cases:
        total += idle.SECONDS_EACH * sum(map(idle.is_measured, peers))
    return total
