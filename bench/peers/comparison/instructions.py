"""Instructions a request in user space, for each setting of ours in a case: callgrind counts them, whoever else uses the machine.

They say nothing of the kernel, of caches or of time; for what two settings differ by they are exact where a clock is not.
"""

import argparse
import json
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import time

from . import system
from .cases import CASES
from .load import generator
from .proxies import BY_NAME, RINGGATE, Place

WARM_UP, REQUESTS = 3_000, 20_000
# A program under valgrind takes its time.
START_SECONDS, ANSWER = 60, "60s"
TOTALS = re.compile(r"^totals: (\d+)", re.MULTILINE)


class CountError(RuntimeError):
    """Something that must be counted was not."""


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="bench/peers/instructions", description=__doc__)
    ours = [case.key for case in CASES if any(one.peer == RINGGATE for one in case.contenders)]
    parser.add_argument("--case", default="features", choices=ours)
    parser.add_argument("--out", type=pathlib.Path, required=True, help="the file to write, JSON")
    parser.add_argument("--profiles", type=pathlib.Path, help="a folder for callgrind's own files")
    parser.add_argument("--programs", type=pathlib.Path, help="where ringgate and ringgate-load are [default: target/release]")
    options = parser.parse_args(arguments)
    if options.programs:
        system.OURS = options.programs.resolve()
    case = next(case for case in CASES if case.key == options.case)
    with tempfile.TemporaryDirectory() as folder:
        profiles = options.profiles or pathlib.Path(folder)
        profiles.mkdir(parents=True, exist_ok=True)
        rows = count(case, pathlib.Path(folder), profiles)
    options.out.write_text(json.dumps(rows, indent=1) + "\n")
    return 0


def count(case, folder, profiles):
    address = f"127.0.0.1:{system.free_port()}"
    upstream = subprocess.Popen([generator(), "upstream", "-t", "1", "--listen", address], stdout=subprocess.DEVNULL)
    rows = []
    try:
        _answers(address)
        for number, one in enumerate(one for one in case.contenders if one.peer == RINGGATE):
            profile = profiles / f"callgrind.{(one.note or 'plain').replace(' ', '-')}"
            place = Place(BY_NAME[one.peer], one.flags, folder / str(number), address)
            rows.append({"setting": one.label, **_count_one(case, place, profile)})
            first, last = rows[0]["each"], rows[-1]["each"]
            print(f"{last:8.0f} {last - first:+7.0f}  {one.label}", file=sys.stderr)
    finally:
        upstream.kill()
        upstream.wait()
    return rows


def _count_one(case, place, profile):
    command = BY_NAME[RINGGATE].command(BY_NAME[RINGGATE].binary(), place)
    valgrind = ["valgrind", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={profile}"]
    with (place.folder / "out").open("wb") as out:
        process = subprocess.Popen([*valgrind, *map(str, command)], stdout=out, stderr=out)
    try:
        _answers(place.values["listen"])
        _load(case, place, WARM_UP)
        _control(process, "-i", "on")
        report = _load(case, place, REQUESTS)
        _control(process, "-i", "off")
        _control(process, "-d")
        # A dump has a number behind its name; it is whole when it ends in its sum.
        dump = profile.with_name(profile.name + ".1")
        found = _eventually(lambda: dump.exists() and TOTALS.search(dump.read_text(errors="replace")))
    finally:
        process.kill()
        process.wait()
    dump.rename(profile)
    answered = report["requests"]["succeeded"]
    if report["requests"]["failed"] or answered != REQUESTS:
        raise CountError(f"{answered} of {REQUESTS} requests were answered: {report['statuses']}")
    return {"instructions": int(found.group(1)), "requests": answered, "each": int(found.group(1)) / answered}


def _load(case, place, requests):
    url = f"http://{place.values['listen']}{case.path}"
    words = [generator(), "-t", "1", *case.load, "--live", "never", "--timeout", ANSWER, "--json", "-", "-n", str(requests), url]
    return json.loads(subprocess.run(words, stdout=subprocess.PIPE, check=True).stdout)


def _control(process, *words):
    subprocess.run(["callgrind_control", *words, str(process.pid)], check=True, capture_output=True)


def _answers(address):
    host, _, port = address.rpartition(":")

    def connects():
        try:
            socket.create_connection((host, int(port)), 1).close()
            return True
        except OSError:
            return False

    _eventually(connects)


def _eventually(condition):
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.1)
    raise CountError(f"not within {START_SECONDS} s")
