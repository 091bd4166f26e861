"""What the machine says: CPU time, memory, busy cores, ports, and what it is."""

import os
import pathlib
import platform
import resource
import shutil
import socket
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parents[3]
# Our own programs; `--programs` says where else.
OURS = ROOT / "target/release"
TICKS = os.sysconf("SC_CLK_TCK")
# Descriptors that a proxy with 10,000 idle connections, and we with the other ends, need.
FILES = 32768


def family(pid):
    """`pid` and all that it has started."""
    found, waiting = [], [pid]
    while waiting:
        one = waiting.pop()
        found.append(one)
        for task in pathlib.Path(f"/proc/{one}/task").glob("*"):
            try:
                waiting += map(int, (task / "children").read_text().split())
            except (OSError, ValueError):
                continue
    return found


def cpu_seconds(pid):
    """CPU time of all threads of a process and its children so far, by the scheduler's account in nanoseconds."""
    total = 0
    for one in family(pid):
        for task in pathlib.Path(f"/proc/{one}/task").glob("*"):
            try:
                total += int((task / "schedstat").read_text().split()[0])
            except (OSError, ValueError, IndexError):
                continue
    return total / 1e9


def resident_bytes(pid):
    """Resident memory of a process and its children, and the part of it that is no file's."""
    total = own = 0
    for one in family(pid):
        try:
            text = pathlib.Path(f"/proc/{one}/status").read_text()
        except OSError:
            continue
        fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
        kib = {name: int(fields[name].split()[0]) for name in ("VmRSS", "RssAnon", "RssShmem") if name in fields}
        total += kib.get("VmRSS", 0) * 1024
        own += (kib.get("RssAnon", 0) + kib.get("RssShmem", 0)) * 1024
    return {"resident": total, "own": own}


def busy_seconds():
    """Of each core: seconds in which it did anything, so far."""
    busy = {}
    for line in pathlib.Path("/proc/stat").read_text().splitlines():
        name, *counts = line.split()
        if name.startswith("cpu") and name != "cpu":
            user, nice, system, _idle, _iowait, irq, softirq, *_rest = map(int, counts)
            busy[int(name[3:])] = (user + nice + system + irq + softirq) / TICKS
    return busy


def free_port():
    """A port of loopback that nobody had a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def raise_files():
    """Lets this process and its children open enough descriptors; returns how many that is."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for limit in ((FILES, max(FILES, hard)), (hard, hard)):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, limit)
            break
        except (OSError, ValueError):
            continue
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def program(name):
    """Where a program is: our own, in target/peers/bin, or on the path of a system administrator; None if nowhere."""
    if name in ("ringgate", "ringgate-load"):
        own = OURS / name
        return str(own) if own.exists() else None
    if name == "ringgate-pgo":
        own = ROOT / "target/pgo/release/ringgate"
        return str(own) if own.exists() else None
    built = ROOT / "target/peers/bin" / name
    if built.exists():
        return str(built)
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


def said(*command):
    """The first line that a command prints, on either output; `unknown` if it cannot be run."""
    try:
        run = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=20)
        return (run.stdout + run.stderr).strip().splitlines()[0]
    except (OSError, IndexError, subprocess.TimeoutExpired):
        return "unknown"


def _read(path):
    try:
        return pathlib.Path(path).read_text().strip()
    except OSError:
        return "unknown"


def environment():
    """What must be known to judge or repeat a run. No address, name or path of the machine."""
    model = [line.split(":", 1)[1].strip() for line in _read("/proc/cpuinfo").splitlines() if line.startswith("model name")]
    memory = [line.split()[1] for line in _read("/proc/meminfo").splitlines() if line.startswith("MemTotal")]
    net = "/proc/sys/net"
    return {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "commit": said("git", "-C", ROOT, "describe", "--always", "--dirty"),
        "rustc": said("rustc", "--version"),
        "kernel": platform.release(),
        "cpu": model[0] if model else platform.machine(),
        "cores": os.cpu_count(),
        "memory_mib": int(memory[0]) // 1024 if memory else None,
        "governor": _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "congestion_control": _read(f"{net}/ipv4/tcp_congestion_control"),
        "tcp_rmem": _read(f"{net}/ipv4/tcp_rmem"),
        "tcp_wmem": _read(f"{net}/ipv4/tcp_wmem"),
        "io_uring_disabled": _read("/proc/sys/kernel/io_uring_disabled"),
        "load_average_before": list(os.getloadavg()),
        "python": platform.python_version(),
    }
