"""Configurations with places: `@name@` is a value; `@if FLAG`, `@else`, `@end` and `@for COUNT` stand on lines of their own.

In the lines of a `@for`, `@n@` counts from 1. Whatever is wrong in a template is an error: a peer that runs on half a
configuration would be compared unfairly.
"""

import re

PLACE = re.compile(r"@([a-z_]+)@")


class TemplateError(ValueError):
    """What is wrong, and in which line."""


def render(text, flags, values):
    """`text` with its blocks chosen by `flags` (names) and its places filled from `values`."""
    lines = text.splitlines()
    out, rest = _block(lines, 0, frozenset(flags), dict(values), True)
    if rest < len(lines):
        raise TemplateError(f"line {rest + 1}: {lines[rest]} without a beginning")
    return "\n".join(out) + "\n"


def _block(lines, at, flags, values, is_wanted):
    """The lines from `at` to the end of their block, and where that end is."""
    out = []
    while at < len(lines):
        line = lines[at]
        words = line.split()
        word = words[0] if words else ""
        if word in ("@else", "@end"):
            return out, at
        if word == "@if":
            begun, wanted = at, words[1] in flags
            part, at = _block(lines, at + 1, flags, values, is_wanted and wanted)
            out += part if wanted else []
            if at < len(lines) and lines[at].strip() == "@else":
                part, at = _block(lines, at + 1, flags, values, is_wanted and not wanted)
                out += [] if wanted else part
            at = _after_end(lines, at, begun)
        elif word == "@for":
            begun = at
            part, end = _block(lines, at + 1, flags, {**values, "n": "1"}, is_wanted)
            for number in range(2, int(words[1]) + 1):
                part += _block(lines, at + 1, flags, {**values, "n": str(number)}, is_wanted)[0]
            out += part
            at = _after_end(lines, end, begun)
        else:
            if is_wanted:
                out.append(_filled(line, at, values))
            at += 1
    return out, at


def _after_end(lines, at, begun):
    if at >= len(lines) or lines[at].strip() != "@end":
        raise TemplateError(f"line {begun + 1}: {lines[begun]} without @end")
    return at + 1


def _filled(line, at, values):
    def value(found):
        if found.group(1) not in values:
            raise TemplateError(f"line {at + 1}: nothing is known of {found.group(0)}")
        return str(values[found.group(1)])

    return PLACE.sub(value, line)
