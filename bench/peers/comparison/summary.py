"""From rounds to figures: medians and spreads by case and gateway, and what the targets make of them."""

import collections
import statistics

from . import load
from .cases import CASES

FIGURES = ("cpu_us", "rate", "p50_us", "p99_us", "p99_9_us", "proxy_core_busy", "load_core_busy")
# A gateway that answered this share of an open loop's requests held the rate.
HELD = 0.99


def spread(values):
    """Median, least and greatest; None without values."""
    values = [value for value in values if value is not None]
    if not values:
        return None
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "count": len(values)}


def summarize(result):
    """{case: {gateway: figures}} in the order of the run."""
    groups = collections.OrderedDict()
    for row in result["rounds"]:
        groups.setdefault(row["case"], collections.OrderedDict()).setdefault(row["proxy"], []).append(row)
    return {
        case: {proxy: _figures(rows) for proxy, rows in proxies.items()} for case, proxies in groups.items()
    }


def _figures(rows):
    figures = {name: spread(row[name] for row in rows) for name in FIGURES}
    figures["failed"] = sum(row["failed"] for row in rows)
    figures["answered"] = sum(row["answered"] for row in rows)
    figures["late"] = sum(row["exit"] == 3 for row in rows)
    figures["rounds"] = len(rows)
    sides = collections.Counter(load.saturated(row) for row in rows)
    figures["saturated"] = sides.most_common(1)[0][0]
    statuses = collections.Counter()
    for row in rows:
        statuses.update({status: int(count) for status, count in row["statuses"].items()})
    figures["statuses"] = dict(statuses)
    intended = rows[0]["rate_intended"]
    figures["held"] = None if not intended else figures["rate"]["median"] >= HELD * intended
    return figures


def paired_difference(result, case, one, other):
    """CPU time of `one` less that of `other`, round by round: what two settings of one gateway differ by."""
    by_round = collections.defaultdict(dict)
    for row in result["rounds"]:
        if row["case"] == case:
            by_round[row["round"]][row["proxy"]] = row["cpu_us"]
    pairs = [found[one] - found[other] for found in by_round.values() if found.get(one) and found.get(other)]
    return spread(pairs)


def median(summary, case, proxy, figure="cpu_us"):
    found = summary.get(case, {}).get(proxy, {}).get(figure)
    return found["median"] if found else None


def best_other(summary, case, figure, ours, least=True, skip=()):
    """The best of the others in a figure, as (gateway, figures); the relay is none of them."""
    own = [
        (proxy, figures)
        for proxy, figures in summary.get(case, {}).items()
        if not proxy.startswith((ours, *skip)) and figures[figure] and figures["held"] is not False
    ]
    key = lambda pair: pair[1][figure]["median"]  # noqa: E731
    return (min if least else max)(own, key=key, default=None)


def titles():
    return {case.key: case.title for case in CASES}
