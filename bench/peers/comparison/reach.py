"""The targets, and whether a run reached them: computed from its figures, never typed."""

import dataclasses

from . import summary as figures
from .proxies import ARTICLE, ENVOY, HAPROXY, NGINX, PINGORA, RELAY, RINGGATE

NO_LOG, LET_THROUGH, UNLIMITED = (f"{RINGGATE}, {note}" for note in ("no log", "let through", "no limits"))
BARE, ASKED_FOR = (f"{RINGGATE}, {note}" for note in ("bare", "all asked for"))
KIB, MIB = 1024, 1024 * 1024

# Ratio of our CPU time per request to another's, at most.
RATIOS = [
    ("keep-alive-128", RELAY, 1.10),
    ("keep-alive-128", NGINX, 0.66),
    ("keep-alive-128", HAPROXY, 0.65),
    ("keep-alive-128", PINGORA, 0.37),
    ("keep-alive-128", ENVOY, 0.17),
    ("keep-alive-128", ARTICLE, 0.08),
    ("keep-alive-16k", RELAY, 1.10),
    ("keep-alive-1m", RELAY, 1.10),
    ("post-64k", RELAY, 1.10),
    ("new-connection", NGINX, 1.00),
    ("open-2000", NGINX, 0.95),
]


@dataclasses.dataclass(frozen=True)
class Line:
    """One target. `reached` is None where a figure is missing."""

    case: str
    target: str
    measured: str
    reached: object


def lines(result, summary):
    """Every target with what this run says of it."""
    titles = figures.titles()
    out = [_ratio(summary, titles, *target) for target in RATIOS]
    out += _differences(result, titles)
    out += _latencies(summary, titles)
    out += _refused(summary, titles)
    out += _throughput(summary, titles)
    out += _memory(result)
    return out


def _ratio(summary, titles, case, other, most):
    ours, theirs = figures.median(summary, case, RINGGATE), figures.median(summary, case, other)
    target = f"at most {most:.2f} x {other}"
    if not ours or not theirs:
        return Line(titles[case], target, "not measured", None)
    ratio = ours / theirs
    return Line(titles[case], target, f"{ratio:.2f} ({ours:.1f} and {theirs:.1f} µs)", round(ratio, 2) <= most)


def _differences(result, titles):
    wanted = [
        ("access-log", RINGGATE, NO_LOG, 0.8, "µs more than without"),
        ("limiter-cost", RINGGATE, UNLIMITED, 0.25, "µs more than without limits"),
        ("features-all", ASKED_FOR, BARE, 1.0, "µs more than the bare path"),
    ]
    for case, one, other, most, words in wanted:
        found = figures.paired_difference(result, case, one, other)
        measured = f"{found['median']:.2f} µs ({found['min']:.2f} to {found['max']:.2f})" if found else "not measured"
        yield Line(titles[case], f"at most {most} {words}", measured, found and found["median"] <= most)


def _latencies(summary, titles):
    """p50 and p99 at 2,000/s within the spread of the best other; p99.9 under zipf keys the best of all that hold it."""
    for case, figure, words, needs_best in (
        ("open-2000", "p50_us", "p50 within the spread of the best peer", False),
        ("open-2000", "p99_us", "p99 within the spread of the best peer", False),
        ("zipf-60", "p99_9_us", "p99.9 best of all peers that hold the rate", True),
    ):
        ours = summary.get(case, {}).get(RINGGATE, {})
        best = figures.best_other(summary, case, figure, RINGGATE, skip=(RELAY,))
        if not best or not ours.get(figure):
            yield Line(titles[case], words, "not measured", None)
            continue
        name, theirs = best
        own, other = ours[figure], theirs[figure]
        reached = own["median"] <= (other["median"] if needs_best else other["max"]) and ours["held"] is not False
        measured = (
            f"{own['median']:,.0f} µs ({own['min']:,.0f} to {own['max']:,.0f}); {name} "
            f"{other['median']:,.0f} µs ({other['min']:,.0f} to {other['max']:,.0f})"
        )
        yield Line(titles[case], words, measured, reached)


def _refused(summary, titles):
    case = "refused"
    ours, proxied = (figures.median(summary, case, name) for name in (RINGGATE, LET_THROUGH))
    theirs = figures.median(summary, case, NGINX)
    for target, other, most in (("half of our own proxied request", proxied, 0.5), ("below nginx's 429", theirs, 1.0)):
        if not ours or not other:
            yield Line(titles[case], target, "not measured", None)
        else:
            yield Line(titles[case], target, f"{ours / other:.2f} ({ours:.1f} and {other:.1f} µs)", ours / other <= most)


def _throughput(summary, titles):
    """Cases in which our worker had no time left: whether any other gateway gave more answers."""
    for case, proxies in summary.items():
        ours = proxies.get(RINGGATE)
        if not ours or ours["saturated"] not in ("gateway", "both") or ours["held"] is not None:
            continue
        best = figures.best_other(summary, case, "rate", RINGGATE, least=False, skip=(RELAY,))
        if best:
            own, other = ours["rate"]["median"], best[1]["rate"]["median"]
            measured = f"{own:,.0f}/s; {best[0]} {other:,.0f}/s"
            yield Line(titles[case], "throughput with our worker saturated: ahead of every peer", measured, own > other)


def _memory(result):
    own = next((row for row in result["idle"] if row["peer"] == RINGGATE and not row["error"]), None)
    if own:
        each = own["bytes_each"]
        yield Line("10,000 idle connections", "at most 1 KiB each", f"{each:,.0f} bytes", each <= KIB)
    rest = result.get("own_at_rest")
    if rest and not rest["error"]:
        fresh, after = rest["fresh"]["resident"] / MIB, rest["after_load"]["resident"] / MIB
        measured = f"{fresh:.1f} MiB fresh, {after:.1f} MiB after a second of load"
        yield Line("at rest, two workers, the default table", "under 12 MiB resident", measured, fresh < 12)


def table(rows):
    words = {True: "reached", False: "**not reached**", None: "not measured"}
    out = ["| case | target | measured | |", "|---|---|---|---|"]
    out += [f"| {row.case} | {row.target} | {row.measured} | {words[row.reached]} |" for row in rows]
    return "\n".join(out) + "\n"
