#!/usr/bin/env python3
"""Instructions a request, and how much code they lie in: footprint.py CALLGRIND_OUT REQUESTS

Reads what `valgrind --tool=callgrind --dump-instr=yes` has written. A line is 64 bytes of code of which at least one
instruction ran for at least one request in twenty; a page is 4 KiB with such a line.
"""

import collections
import re
import sys

OFTEN = 0.05


class Names:
    """Callgrind writes a name once, and a number for it from then on."""

    def __init__(self):
        self.known = {}

    def of(self, text):
        match = re.match(r"\((\d+)\)(?: (.*))?$", text)
        if not match:
            return text
        if match[2] is not None:
            self.known[match[1]] = match[2]
        return self.known.get(match[1], "?")


def number(word, before):
    if word == "*":
        return before
    if word[0] in "+-":
        return before + int(word, 0)
    return int(word, 0)


def read(path):
    """Executions by address, and the function of each address."""
    functions, executions, owner = Names(), collections.Counter(), {}
    function, address, is_call = "?", 0, False
    with open(path, errors="replace") as lines:
        for line in lines:
            if line[0].isdigit() or line[0] in "+-*":
                words = line.split()
                if len(words) < 3:
                    continue
                address = number(words[0], address)
                if is_call:
                    is_call = False
                    continue
                executions[address] += int(words[2])
                owner[address] = function
            elif line.startswith("fn="):
                function = functions.of(line[3:].strip())
            elif line.startswith("cfn="):
                functions.of(line[4:].strip())
            elif line.startswith("calls="):
                is_call = True
    return executions, owner


def main():
    executions, owner = read(sys.argv[1])
    requests = float(sys.argv[2])
    often = [address for address, count in executions.items() if count / requests >= OFTEN]
    lines = {address >> 6 for address in often}
    pages = {address >> 12 for address in often}
    total = sum(executions.values()) / requests
    print(f"{total:,.0f} instructions a request, {len(often):,} different ones, on {len(lines):,} lines and {len(pages)} pages")
    by_function, work = collections.defaultdict(set), collections.Counter()
    for address in often:
        by_function[owner[address]].add(address >> 6)
    for address, count in executions.items():
        work[owner[address]] += count
    for function, its in sorted(by_function.items(), key=lambda pair: -len(pair[1]))[:40]:
        print(f"{len(its):5} lines {work[function] / requests:9.1f} instructions  {function}")


if __name__ == "__main__":
    main()
