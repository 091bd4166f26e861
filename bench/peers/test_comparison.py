"""What the comparison makes of numbers: templates, medians, ratios, targets, tables, plots. Measures nothing."""

import pathlib
import sys
import tempfile
import unittest
import xml.etree.ElementTree

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from comparison import cli, load, plots, reach, report, session, summary  # noqa: E402
from comparison.cases import CASES, KEYS_OF_CASES, chosen, drop_relay_where_no_http  # noqa: E402
from comparison.proxies import BY_NAME, CONFIG, PEERS  # noqa: E402
from comparison.template import TemplateError, render  # noqa: E402

VALUES = {
    "dir": "/d", "host": "127.0.0.1", "port": 1, "listen": "127.0.0.1:1", "admin": 2, "upstream": "127.0.0.1:3",
    "upstream_host": "127.0.0.1", "upstream_port": 3, "log_file": "/d/log", "workers": 1, "keys": "/k", "networks": "/d/networks",
}  # fmt: skip


def row(case, proxy, number, cpu_us, rate=1000.0, intended=None, busy=(1.0, 0.5), p99=10.0):
    latency = {"p50_us": p99 / 2, "p99_us": p99, "p99_9_us": p99 * 2}
    return {
        "round": number, "case": case, "proxy": proxy, "exit": 0, "cpu_us": cpu_us, "cpu_s": 1.0, "took_s": 1.0, "answered": 10,
        "failed": 0, "rate": rate, "rate_intended": intended, "statuses": {"200": 10}, "errors": {}, **latency,
        "proxy_core_busy": busy[0], "load_core_busy": busy[1], "load": {},
    }  # fmt: skip


def result(rounds):
    return {
        "rounds": rounds, "checks": [{"case": "keep-alive-128", "proxy": "nginx", "wrong": None}], "limits": [], "logs": [],
        "idle": [], "skipped": [], "notes": [], "environment": {"date": "2026-01-02 03:04 UTC", "commit": "abc"}, "took_s": 60.0,
        "versions": {"nginx": "1"}, "options": {"rounds": 3, "seconds": 1, "command": "bench/peers/run", "idle": False},
    }  # fmt: skip


class Templates(unittest.TestCase):
    def test_a_flag_chooses_and_else_is_the_rest(self):
        text = "a\n@if one\nb @x@\n@else\nc\n@end\nd"
        self.assertEqual(render(text, {"one"}, {"x": 7}), "a\nb 7\nd\n")
        self.assertEqual(render(text, set(), {"x": 7}), "a\nc\nd\n")

    def test_blocks_nest_and_loops_count_from_one(self):
        text = "@if one\n@if two\nboth\n@else\nfirst\n@end\n@end\n@for 3\nr@n@\n@end\nlast"
        self.assertEqual(render(text, {"one"}, {}), "first\nr1\nr2\nr3\nlast\n")
        self.assertEqual(render(text, {"one", "two"}, {}).splitlines()[0], "both")
        self.assertEqual(render(text, set(), {}), "r1\nr2\nr3\nlast\n")

    def test_what_is_not_chosen_needs_no_value_and_what_is_wrong_is_an_error(self):
        self.assertEqual(render("@if no\n@unknown@\n@end\nx", set(), {}), "x\n")
        for text in ("@unknown@", "@if one\nx", "@for 2\nx", "x\n@end", "@else"):
            with self.assertRaises(TemplateError, msg=text):
                render(text, {"one"}, {})

    def test_every_configuration_of_every_setting_is_whole(self):
        settings = {frozenset(), *(one.flags for case in CASES for one in case.contenders)}
        rendered = 0
        for peer in PEERS:
            for flags in settings:
                if flags <= peer.can:
                    for name in peer.configs:
                        text = render((CONFIG / name).read_text(), flags, VALUES)
                        self.assertNotRegex(text, r"@[a-z_]+@|^@", f"{name} with {set(flags)}")
                        rendered += 1
        self.assertGreater(rendered, 30)


class Cases(unittest.TestCase):
    def test_keys_are_unique_and_contenders_can_do_what_is_asked_of_them(self):
        self.assertEqual(len(KEYS_OF_CASES), len(set(KEYS_OF_CASES)))
        for case in CASES:
            for one in case.contenders:
                self.assertLessEqual(one.flags, BY_NAME[one.peer].can | {"unlimited"}, case.key)
            labels = [one.label for one in case.contenders]
            self.assertEqual(len(labels), len(set(labels)), case.key)

    def test_the_relay_is_not_compared_where_it_would_connect_each_time(self):
        for case in drop_relay_where_no_http(CASES):
            if "new-connection" in case.key:
                self.assertNotIn("raw relay", [one.peer for one in case.contenders])

    def test_what_was_asked_for_is_what_is_run(self):
        cases = chosen(["keep-alive-128", "veth-open-2000"], ["nginx", "ringgate"], ("loopback",))
        self.assertEqual([case.key for case in cases], ["keep-alive-128"])
        self.assertEqual([one.peer for one in cases[0].contenders], ["ringgate", "nginx"])

    def test_all_of_it_takes_forty_minutes_at_most(self):
        options = cli.arguments([])
        cases = chosen(options.cases, options.peers, options.networks)
        seconds = session.estimate_seconds(cases, PEERS, options)
        self.assertTrue(10 * 60 < seconds < 40 * 60, seconds)
        self.assertGreaterEqual(options.rounds, 5)


class Figures(unittest.TestCase):
    def test_a_figure_is_the_median_with_its_spread(self):
        figures = summary.summarize(result([row("keep-alive-128", "nginx", n, cpu) for n, cpu in enumerate((9.0, 1.0, 5.0))]))
        self.assertEqual(figures["keep-alive-128"]["nginx"]["cpu_us"], {"median": 5.0, "min": 1.0, "max": 9.0, "count": 3})

    def test_the_side_without_time_is_named(self):
        self.assertEqual(load.saturated(row("c", "p", 0, 1.0, busy=(0.99, 0.5))), "gateway")
        self.assertEqual(load.saturated(row("c", "p", 0, 1.0, busy=(0.5, 0.99))), "generator")
        self.assertEqual(load.saturated(row("c", "p", 0, 1.0, busy=(0.99, 0.99))), "both")
        self.assertEqual(load.saturated(row("c", "p", 0, 1.0, busy=(0.5, 0.5))), "neither")

    def test_settings_of_one_gateway_are_compared_round_by_round(self):
        rounds = []
        for number, drift in enumerate((0.0, 50.0, 100.0)):
            rounds.append(row("access-log", "ringgate", number, 10.5 + drift))
            rounds.append(row("access-log", "ringgate, no log", number, 10.0 + drift))
        found = summary.paired_difference(result(rounds), "access-log", "ringgate", "ringgate, no log")
        self.assertAlmostEqual(found["median"], 0.5)

    def lines(self, rounds):
        run = result(rounds)
        return {(line.case, line.target): line for line in reach.lines(run, summary.summarize(run))}

    def test_a_ratio_is_reached_or_not_by_its_figures(self):
        for ours, reached in ((6.0, True), (6.6, True), (6.7, False)):
            found = self.lines([row("keep-alive-128", "ringgate", 0, ours), row("keep-alive-128", "nginx", 0, 10.0)])
            self.assertIs(found["keep-alive, 128 B answers", "at most 0.66 x nginx"].reached, reached, ours)
            self.assertIsNone(found["keep-alive, 128 B answers", "at most 0.65 x HAProxy"].reached)

    def test_throughput_counts_where_our_worker_was_the_bottleneck(self):
        def target(busy):
            rows = [row("pipelined", "ringgate", 0, 5.0, rate=90.0, busy=busy), row("pipelined", "nginx", 0, 5.0, rate=100.0)]
            rows.append(row("pipelined", "raw relay", 0, 1.0, rate=900.0))
            return [line for line in self.lines(rows).values() if "throughput" in line.target]

        self.assertEqual(target((0.5, 1.0)), [])
        self.assertIs(target((1.0, 0.5))[0].reached, False)
        self.assertIn("nginx", target((1.0, 0.5))[0].measured)

    def test_a_peer_that_does_not_hold_the_rate_is_no_best(self):
        rows = [
            row("zipf-60", "ringgate", 0, 5.0, rate=1000.0, intended=1000.0, p99=20.0),
            row("zipf-60", "nginx", 0, 5.0, rate=1000.0, intended=1000.0, p99=30.0),
            row("zipf-60", "pingora", 0, 5.0, rate=500.0, intended=1000.0, p99=1.0),
        ]
        line = next(line for (case, _), line in self.lines(rows).items() if "zipf" in case)
        self.assertIs(line.reached, True)
        self.assertIn("nginx", line.measured)


class Reports(unittest.TestCase):
    def test_a_run_is_written_whole_and_its_plots_are_xml(self):
        rounds = [row(case, proxy, 0, cpu) for case in ("keep-alive-128", "pipelined") for proxy, cpu in (("ringgate", 5.0), ("nginx", 10.0))]
        rounds.append(row("open-2000", "ringgate", 0, 50.0, rate=2000.0, intended=2000.0))
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            report.write(folder, result(rounds))
            text = (folder / "README.md").read_text()
            self.assertIn("| keep-alive, 128 B answers | at most 0.66 x nginx | 0.50 (5.0 and 10.0 µs) | reached |", text)
            self.assertIn("| nginx | 10.0 (10.0 to 10.0) | 1.00 |", (folder / "table.md").read_text())
            plots_drawn = sorted(folder.glob("*.svg"))
            self.assertGreaterEqual(len(plots_drawn), 3)
            for plot in plots_drawn:
                self.assertIn("prefers-color-scheme: dark", plot.read_text())
                self.assertTrue(xml.etree.ElementTree.parse(plot).getroot().tag.endswith("svg"))
                self.assertIn(f"({plot.name})", text)

    def test_steps_of_an_axis_are_round(self):
        self.assertEqual([plots.nice_step(top) for top in (10, 148, 0.9, 3)], [2, 50, 0.2, 1])


if __name__ == "__main__":
    unittest.main()
