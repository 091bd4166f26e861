//! Limiters by cost and accuracy: one table, each row a design on the same traffic.
//!
//! `cargo bench -p bench --bench limiter` takes some five minutes, with `-- --quick` under two (without ten million keys).
//! `BENCH_SAVE=DIR` writes the tables and a plot there; criterion's raw data is in `target/criterion`.
#![expect(
    clippy::cast_possible_truncation,
    reason = "hashes are cut to numbers of lines and iterations to sizes of this machine"
)]

mod designs;
mod harness;

use std::error::Error;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use bench::report::Report;
use criterion::Criterion;

use designs::{
    ArticleGlobal, ArticleMap, BareRead, BareSwap, BareSwapLine, Design, Governor, GovernorWhole,
    Ours, OursHuge, OursWhole, Owner, ShardedMutex, ThreadLocal,
};
use harness::{Traffic, accuracy, bytes_per_key, cost};

/// Keys and what the columns call them.
const KEYS: [(usize, &str); 4] = [
    (1, "hot key"),
    (1_000, "1k keys"),
    (1_000_000, "1M keys"),
    (10_000_000, "10M keys"),
];
/// Rates and threads of the accuracy table.
const RATES: [u32; 3] = [10, 3_000, 1_000_000];
const ACCURACY_THREADS: [usize; 3] = [1, 2, 8];

/// Set in a child process that measures the memory of one row: its index.
const BYTES_OF: &str = "BENCH_BYTES_OF";
/// Keys of that measurement.
const BYTES_KEYS: usize = 1_000_000;

/// A row: its name, and what is measured of it for which kind of design.
struct Row {
    name: &'static str,
    steered: bool,
    cost: fn(&mut Criterion, &str, &Traffic) -> Option<f64>,
    bytes: fn(&[limiter::Key]) -> Option<f64>,
    accuracy: fn(u32, usize, Duration, u32) -> f64,
    /// Below which number of threads it makes no sense.
    threads_min: usize,
    /// Whether it limits anything.
    limits: bool,
}

impl Row {
    fn of<D: Design>(name: &'static str) -> Self {
        Self {
            name,
            steered: false,
            cost: cost::<D>,
            bytes: bytes_per_key::<D>,
            accuracy: accuracy::<D>,
            threads_min: 1,
            limits: true,
        }
    }
}

fn rows() -> Vec<Row> {
    vec![
        Row::of::<ArticleGlobal>("article's mutex bucket, one for all (*)"),
        Row::of::<ArticleMap>("article's mutex bucket, map in a mutex (*)"),
        Row::of::<ShardedMutex>("map in 64 mutexes"),
        Row::of::<Governor>("governor 0.10 keyed"),
        Row::of::<GovernorWhole>("governor 0.10 keyed, own hash and clock (*)"),
        Row {
            threads_min: 2,
            ..Row::of::<Owner>("owner core by message")
        },
        Row::of::<ThreadLocal>("map for each thread"),
        Row::of::<Ours>("ours, any thread"),
        Row {
            steered: true,
            ..Row::of::<Ours>("ours, steered to the owner of the shard")
        },
        Row::of::<OursHuge>("ours, any thread, huge pages"),
        Row::of::<OursWhole>("ours, with hash and clock (*)"),
        Row {
            limits: false,
            ..Row::of::<BareSwap>("bare compare-and-swap, one word")
        },
        Row {
            limits: false,
            ..Row::of::<BareSwapLine>("bare compare-and-swap, the key's line")
        },
        Row {
            limits: false,
            ..Row::of::<BareRead>("bare read of a line, each after the last")
        },
    ]
}

fn main() -> Result<(), Box<dyn Error>> {
    let rows = rows();
    if let Ok(index) = std::env::var(BYTES_OF) {
        let keys = Traffic::new(BYTES_KEYS, 1, false).keys;
        let bytes = rows
            .get(index.parse::<usize>()?)
            .and_then(|row| (row.bytes)(&keys));
        write!(std::io::stdout(), "{}", bytes.ok_or("nothing to measure")?)?;
        return Ok(());
    }
    let flag = |name: &str| std::env::args().any(|argument| argument == name);
    let (test, quick) = (flag("--test"), flag("--quick") || flag("--test"));
    let mut criterion = Criterion::default()
        .without_plots()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(if quick { 100 } else { 300 }))
        .measurement_time(Duration::from_millis(if quick { 200 } else { 1_000 }))
        .configure_from_args();
    let all = thread::available_parallelism()?.get();
    // A test makes sure that it runs, which few keys show.
    let kinds = match (test, quick) {
        (true, _) => &KEYS[..2],
        (_, true) => &KEYS[..3],
        _ => &KEYS[..],
    };
    let threads: Vec<usize> = if all > 1 { vec![1, all] } else { vec![1] };

    let mut costs = costs(&mut criterion, &rows, kinds, &threads);
    criterion.final_summary();
    for (index, _) in rows
        .iter()
        .enumerate()
        .filter(|(_, row)| row.limits && !test)
    {
        costs[index].bytes = bytes_in_child(index);
    }
    let (time, units_min) = if quick { (50, 0) } else { (400, 10) };
    let grid = accuracies(&rows, Duration::from_millis(time), units_min, test);

    let cost = cost_table(&rows, kinds, &threads, &costs, &grid);
    let accuracy = accuracy_table(&rows, &grid);
    let mut out = std::io::stdout().lock();
    write!(out, "\n{}\n{}", accuracy.markdown(), cost.markdown())?;
    if let Some(dir) = std::env::var_os("BENCH_SAVE") {
        let dir = Path::new(&dir);
        cost.save(dir, "limiter-cost")?;
        accuracy.save(dir, "limiter-accuracy")?;
        for (at, threads) in threads.iter().enumerate() {
            let column = |kind: usize| kind * self::threads(&costs) + at;
            let points: Vec<(f64, usize)> = kinds
                .iter()
                .enumerate()
                .map(|(kind, (keys, _))| (*keys as f64, column(kind)))
                .collect();
            let file = dir.join(format!("limiter-cost-{threads}-threads.svg"));
            cost.plot(
                &file,
                &format!("ns per decision, {threads} thread(s)"),
                &points,
            )?;
        }
    }
    Ok(())
}

/// What a row takes per key, measured in a process that has not freed memory yet which could be used again.
fn bytes_in_child(row: usize) -> Option<f64> {
    let child = Command::new(std::env::current_exe().ok()?)
        .env(BYTES_OF, row.to_string())
        .output();
    String::from_utf8(child.ok()?.stdout)
        .ok()?
        .trim()
        .parse()
        .ok()
}

/// How many numbers of threads each kind of traffic was measured with.
fn threads(costs: &[Costs]) -> usize {
    costs
        .first()
        .and_then(|row| row.cells.first())
        .map_or(1, Vec::len)
}

/// What one row costs: for each kind of traffic, for each number of threads.
#[derive(Clone, Default)]
struct Costs {
    cells: Vec<Vec<Option<f64>>>,
    bytes: Option<f64>,
}

fn costs(
    criterion: &mut Criterion,
    rows: &[Row],
    kinds: &[(usize, &str)],
    threads: &[usize],
) -> Vec<Costs> {
    let mut costs = vec![
        Costs {
            cells: vec![Vec::new(); kinds.len()],
            bytes: None
        };
        rows.len()
    ];
    for (kind, &(keys, kind_name)) in kinds.iter().enumerate() {
        for &threads in threads {
            let free = Traffic::new(keys, threads, false);
            let steered = Traffic::new(keys, threads, true);
            for (row, costs) in rows.iter().zip(&mut costs) {
                let traffic = if row.steered { &steered } else { &free };
                let id = format!("{}/{kind_name}/{threads} threads", row.name);
                let cost =
                    (threads >= row.threads_min).then(|| (row.cost)(criterion, &id, traffic));
                costs.cells[kind].push(cost.flatten());
            }
        }
    }
    costs
}

/// For each row, each rate, each number of threads; one cell each where only the harness itself is tested.
fn accuracies(rows: &[Row], time: Duration, units_min: u32, test: bool) -> Vec<Vec<Option<f64>>> {
    let grid = |row: &Row| {
        let mut cells = Vec::new();
        for rate in RATES {
            for threads in ACCURACY_THREADS {
                let wanted = row.limits && threads >= row.threads_min && !(test && threads > 2);
                cells.push(wanted.then(|| (row.accuracy)(rate, threads, time, units_min)));
            }
        }
        cells
    };
    rows.iter().map(grid).collect()
}

fn cost_table(
    rows: &[Row],
    kinds: &[(usize, &str)],
    threads: &[usize],
    costs: &[Costs],
    grid: &[Vec<Option<f64>>],
) -> Report {
    let heads = kinds.iter().flat_map(|(_, kind)| {
        threads
            .iter()
            .map(move |threads| format!("{kind}, {threads}T"))
    });
    let columns = heads
        .chain(["bytes/key".to_owned(), "admitted/allowed".to_owned()])
        .collect();
    let row = |((row, costs), grid): ((&Row, &Costs), &Vec<Option<f64>>)| {
        let mut cells: Vec<Option<f64>> = costs.cells.iter().flatten().copied().collect();
        // 3,000 per second on two threads.
        cells.extend([costs.bytes, grid[4]]);
        (row.name.to_owned(), cells)
    };
    Report {
        title: "Limiters: ns per decision and thread, median; all decisions admit".to_owned(),
        columns,
        rows: rows.iter().zip(costs).zip(grid).map(row).collect(),
        notes: vec![
            "Every design gets the same hash and the same time; those marked (*) hash or read a clock themselves. Keys are \
             drawn evenly at random and stay live, but for the hot key. A steered hot key is one for each thread. Bytes are \
             resident bytes added by a million keys. Admitted/allowed: 3,000/s asked for by two threads without a pause."
                .to_owned(),
            "leaky-bucket is not in the table: it makes its callers wait instead of refusing, and one bucket is one object."
                .to_owned(),
        ],
    }
}

fn accuracy_table(rows: &[Row], grid: &[Vec<Option<f64>>]) -> Report {
    let columns = RATES.into_iter().flat_map(|rate| {
        ACCURACY_THREADS
            .into_iter()
            .map(move |threads| format!("{rate}/s, {threads}T"))
    });
    let limiting = rows.iter().zip(grid).filter(|(row, _)| row.limits);
    Report {
        title: "Limiters: units admitted over units allowed (burst + rate * time)".to_owned(),
        columns: columns.collect(),
        rows: limiting
            .map(|(row, cells)| (row.name.to_owned(), cells.clone()))
            .collect(),
        notes: Vec::new(),
    }
}
