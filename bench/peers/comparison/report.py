"""What a run leaves: raw.json, table.md, plots, and a README.md that says what was measured and how to repeat it."""

import json

from . import plots, reach, summary
from .proxies import BY_NAME, NGINX, RELAY, RINGGATE

MIB = 1024 * 1024


def compact(result):
    """A tree as JSON, a line for each measurement, so that two runs can be compared as text."""
    text = json.dumps({**result, "rounds": []}, separators=(",", ":"), sort_keys=True)
    rows = ",\n".join(json.dumps(row, separators=(",", ":"), sort_keys=True) for row in result["rounds"])
    return text.replace('"rounds":[]', f'"rounds":[\n{rows}\n]', 1) + "\n"


def write(folder, result):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "raw.json").write_text(compact(result))
    figures = summary.summarize(result)
    (folder / "table.md").write_text(tables(result, figures))
    drawn = plots.draw(folder, result, figures)
    (folder / "README.md").write_text(readme(result, figures, drawn))
    return figures


def _cell(figures, name, digits=1, scale=1.0):
    found = figures.get(name)
    if not found:
        return "-"
    low, middle, high = (found[key] * scale for key in ("min", "median", "max"))
    return f"{middle:,.{digits}f} ({low:,.{digits}f} to {high:,.{digits}f})"


def _ratio(figures, name, other):
    own, theirs = figures[name]["cpu_us"], figures.get(other, {}).get("cpu_us")
    return f"{own['median'] / theirs['median']:.2f}" if own and theirs else "-"


def case_table(figures):
    """One case: a line for each gateway."""
    is_open = any(row["held"] is not None for row in figures.values())
    out = [
        "| gateway | CPU µs per request | x nginx | x relay | requests/s | saturated | p50 µs | p99 µs | p99.9 µs | failed |"
        + (" generator late |" if is_open else ""),
        "|---|---|---|---|---|---|---|---|---|---|" + ("---|" if is_open else ""),
    ]
    for name, row in figures.items():
        held = " (rate not held)" if row["held"] is False else ""
        busy = f"{100 * row['proxy_core_busy']['median']:.0f} / {100 * row['load_core_busy']['median']:.0f} %"
        out.append(
            f"| {name} | {_cell(row, 'cpu_us')} | {_ratio(figures, name, NGINX)} | {_ratio(figures, name, RELAY)} "
            f"| {row['rate']['median']:,.0f}{held} | {row['saturated']} ({busy}) "
            f"| {_cell(row, 'p50_us', 0)} | {_cell(row, 'p99_us', 0)} | {_cell(row, 'p99_9_us', 0)} | {row['failed']:,} |"
            + (f" {row['late']} of {row['rounds']} |" if is_open else "")
        )
    return "\n".join(out) + "\n"


def idle_table(result):
    out = [
        "| gateway | at rest MiB | after load | with 5,000 idle | with 10,000 idle | bytes each | still open | CPU µs beside them |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in result["idle"]:
        if row["error"]:
            out.append(f"| {row['peer']} | {row['error']} | | | | | | |")
            continue
        cells = [row["at_rest"]["resident"], *(point["resident"] for point in row["points"])]
        beside = row["beside"]["cpu_us"]
        out.append(
            f"| {row['peer']} | "
            + " | ".join(f"{value / MIB:,.1f}" for value in cells)
            + f" | {row['bytes_each']:,.0f} | {row['still_open']:,} | {beside:.1f} |"
        )
    return "\n".join(out) + "\n"


def limits_table(result):
    out = ["| gateway | its limit | refuses client A | lets client B through |", "|---|---|---|---|"]
    word = {True: "yes", False: "no"}
    for row in result["limits"]:
        out.append(f"| {row['proxy']} | {row['kind']} | {word[row['refuses_a']]} | {word[row['spares_b']]} |")
    return "\n".join(out) + "\n"


def tables(result, figures):
    titles = summary.titles()
    out = ["Medians of the rounds, with the least and the greatest in brackets.\n"]
    for case, row in figures.items():
        out.append(f"## {titles[case]}\n\n{case_table(row)}")
    if result["idle"]:
        out.append(f"## Idle connections and memory\n\n{idle_table(result)}")
    if result["limits"]:
        out.append(f"## Whose limit\n\n{limits_table(result)}")
    return "\n".join(out)


def _overview(figures):
    """Every case by gateway: CPU time per request."""
    names = [name for name in BY_NAME if any(name in row for row in figures.values())]
    titles = summary.titles()
    out = ["| CPU µs per request | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for case, row in figures.items():
        cells = [f"{row[name]['cpu_us']['median']:.1f}" if name in row and row[name]["cpu_us"] else "" for name in names]
        out.append(f"| {titles[case]} | " + " | ".join(cells) + " |")
    return "\n".join(out) + "\n"


def readme(result, figures, drawn):
    about, options = result["environment"], result["options"]
    targets = reach.lines(result, figures)
    reached = sum(row.reached is True for row in targets)
    wrong = [row for row in result["checks"] if row["wrong"]]
    parts = [
        f"# {RINGGATE} beside other gateways, {about['date'][:10]}\n",
        f"Made by `{options['command']}`: {options['rounds']} interleaved rounds of {options['seconds']} s, "
        f"{result['took_s'] / 60:.0f} minutes, at commit {about['commit']}.\n",
        "Each gateway has one worker on core 0; the generator and its upstream share core 1, which is saturated first where the "
        "gateway is cheap: read the CPU time per request (all threads and children, by the scheduler's account), and the rate only "
        "where the gateway was saturated. Ours has its route, two limits and metrics on in every case; the others have one limit by "
        "client where they can. Logs are off but where a case says so. A difference within the spread is none.\n",
        f"## Targets: {reached} of {len(targets)} reached\n\n{reach.table(targets)}",
        f"## CPU time per request\n\nMedians; [table.md](table.md) has the spreads, rates, latencies and who was saturated.\n\n{_overview(figures)}",
        "\n".join(f"![{title}]({name})" for title, name in drawn) + "\n",
    ]
    if result["idle"]:
        parts.append(f"## Memory\n\n{idle_table(result)}")
    if result["limits"]:
        parts.append(f"## Whose limit\n\n{limits_table(result)}")
    checked = len(result["checks"])
    parts.append(
        f"## Checks\n\n{checked - len(wrong)} of {checked} answers were the upstream's own (status, length and hash of the body; "
        "all of eight pipelined ones).\n"
    )
    if result["logs"]:
        lines = [f"{row['proxy']} {100 * row['lines'] / max(1, row['answered']):.1f} %" for row in result["logs"]]
        parts.append(f"Lines in the access logs for each answer: {', '.join(lines)}.\n")
    if result["skipped"]:
        parts.append("Skipped:\n\n" + "".join(f"- {row['what']}: {row['why']}\n" for row in result["skipped"]))
    versions = "".join(f"| {name} | {version} |\n" for name, version in result["versions"].items())
    facts = "".join(f"| {name} | {value} |\n" for name, value in about.items())
    parts.append(f"## Environment\n\n| | |\n|---|---|\n{versions}{facts}")
    return "\n".join(parts)
