//! How far apart two sets of samples are, and how sure that is. No I/O.

/// Samples that a statement needs.
pub(super) const SAMPLES_MIN: usize = 5;
/// Batches that the pieces of a run are put into, where there are enough.
const BATCHES: usize = 8;

/// How a measure differs between two runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Shift {
    /// The second over the first, less 1.
    pub(super) ratio: f64,
    /// Bounds of that.
    pub(super) low: f64,
    pub(super) high: f64,
}

impl Shift {
    fn of(difference: f64, margin: f64) -> Self {
        Self {
            ratio: difference.exp_m1(),
            low: (difference - margin).exp_m1(),
            high: (difference + margin).exp_m1(),
        }
    }
}

/// Welch's interval for the difference of the means of two runs' logarithms, wrong with probability `error`; `None` with
/// too few of them.
pub(super) fn unpaired(before: &[f64], after: &[f64], error: f64) -> Option<Shift> {
    if before.len() < SAMPLES_MIN || after.len() < SAMPLES_MIN {
        return None;
    }
    let (first, second) = (Mean::of_run(before), Mean::of_run(after));
    let variance = first.variance + second.variance;
    let freedom = variance.powi(2)
        / (first.variance.powi(2) / first.freedom + second.variance.powi(2) / second.freedom)
            .max(f64::MIN_POSITIVE);
    let margin = student(error, freedom) * variance.sqrt();
    Some(Shift::of(second.mean - first.mean, margin))
}

/// The interval for the mean of the differences of pairs.
pub(super) fn paired(pairs: &[[Vec<f64>; 2]], error: f64) -> Option<Shift> {
    let differences: Vec<f64> = pairs
        .iter()
        .filter(|pair| pair.iter().all(|run| !run.is_empty()))
        .map(|[before, after]| mean(after) - mean(before))
        .collect();
    if differences.len() < SAMPLES_MIN {
        return None;
    }
    let count = differences.len() as f64;
    let variance = spread(&differences) / (count - 1.0) / count;
    let margin = student(error, count - 1.0) * variance.sqrt();
    Some(Shift::of(mean(&differences), margin))
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// The sum of the squares of the distances to the mean.
fn spread(values: &[f64]) -> f64 {
    let mean = mean(values);
    values.iter().map(|value| (value - mean).powi(2)).sum()
}

/// A mean, and how uncertain it is.
#[derive(Clone, Copy)]
struct Mean {
    mean: f64,
    variance: f64,
    freedom: f64,
}

impl Mean {
    /// The more uncertain of two estimates: one sees what neighbours have in common, the other what drifts.
    fn of_run(values: &[f64]) -> Self {
        let single = Self::of_neighbours(values);
        if values.len() < 2 * BATCHES {
            return single;
        }
        let batched = Self::of_batches(values);
        if batched.variance > single.variance {
            batched
        } else {
            single
        }
    }

    /// A sample that is like its neighbour says less: the correlation takes samples away, never adds any.
    fn of_neighbours(values: &[f64]) -> Self {
        let count = values.len() as f64;
        let (mean, squares) = (mean(values), spread(values));
        let products: f64 = values
            .windows(2)
            .map(|pair| (pair[0] - mean) * (pair[1] - mean))
            .sum();
        let correlation = if squares > 0.0 {
            (products / squares).clamp(0.0, 0.9)
        } else {
            0.0
        };
        let effective = (count * (1.0 - correlation) / (1.0 + correlation)).max(3.0);
        Self {
            mean,
            variance: squares / (count - 1.0) / effective,
            freedom: effective - 1.0,
        }
    }

    fn of_batches(values: &[f64]) -> Self {
        let size = values.len() / BATCHES;
        // Those that are left over are the first ones, in which a server warms up.
        let rest = values.len() % BATCHES;
        let batches: Vec<f64> = values
            .get(rest..)
            .unwrap_or_default()
            .chunks_exact(size.max(1))
            .map(mean)
            .collect();
        let count = batches.len() as f64;
        Self {
            mean: mean(values),
            variance: spread(&batches) / (count - 1.0) / count,
            freedom: count - 1.0,
        }
    }
}

/// The deviate that Student's distribution with `freedom`, 2 or more, exceeds on either side with probability `error` in
/// all: Hill's algorithm (CACM 396, 1970), good to six digits from 5 on and to three before.
fn student(error: f64, freedom: f64) -> f64 {
    let n = freedom.max(2.0);
    if n <= 2.0 {
        return (2.0 / (error * (2.0 - error)) - 2.0).sqrt();
    }
    let a = 1.0 / (n - 0.5);
    let b = 48.0 / (a * a);
    let mut c = ((20_700.0 * a / b - 98.0) * a - 16.0) * a + 96.36;
    let d = ((94.5 / (b + c) - 3.0) / b + 1.0) * (a * std::f64::consts::FRAC_PI_2).sqrt() * n;
    let mut y = (d * error).powf(2.0 / n);
    if y > a + 0.05 {
        let x = normal(error / 2.0);
        y = x * x;
        if n < 5.0 {
            c += 0.3 * (n - 4.5) * (x.abs() + 0.6);
        }
        let x = x.abs();
        c += (((0.05 * d * x - 5.0) * x - 7.0) * x - 2.0) * x + b;
        y = (((((0.4 * y + 6.3) * y + 36.0) * y + 94.5) / c - y - 3.0) / b + 1.0) * x;
        y = (a * y * y).exp_m1();
    } else {
        y = ((1.0 / (((n + 6.0) / (n * y) - 0.089 * d - 0.822) * (n + 2.0) * 3.0)
            + 0.5 / (n + 4.0))
            * y
            - 1.0)
            * (n + 1.0)
            / (n + 2.0)
            + 1.0 / y;
    }
    (n * y).sqrt()
}

/// The deviate that a normal variable is below with probability `share`, less than a half: Abramowitz and Stegun 26.2.23,
/// good to 4.5e-4.
fn normal(share: f64) -> f64 {
    let t = (-2.0 * share.ln()).sqrt();
    let over = 2.515_517 + 0.802_853 * t + 0.010_328 * t * t;
    let under = 1.0 + 1.432_788 * t + 0.189_269 * t * t + 0.001_308 * t * t * t;
    over / under - t
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 1 % for five measures.
    const ERROR: f64 = 0.002;
    const NOISE: f64 = 0.01;
    const PAIRS: usize = 1000;

    /// How a machine makes noise.
    #[derive(Clone, Copy)]
    enum Noise {
        /// Each piece by itself.
        White,
        /// Each piece leans on the one before.
        Leaning,
        /// One piece in ten is half as much again: a pause.
        Pauses,
    }

    fn normal_number(random: &mut fastrand::Rng) -> f64 {
        // The sum of 12 uniform numbers is close to normal with deviation 1.
        (0..12).map(|_| random.f64()).sum::<f64>() - 6.0
    }

    /// The pieces of a run around `level`.
    fn pieces(random: &mut fastrand::Rng, noise: Noise, level: f64, count: usize) -> Vec<f64> {
        let mut last = 0.0;
        (0..count)
            .map(|_| {
                let normal = normal_number(random);
                match noise {
                    Noise::White => level + 0.02 * normal,
                    Noise::Leaning => {
                        last = 0.4 * last + 0.02 * normal;
                        level + last
                    }
                    Noise::Pauses => {
                        let pause = if random.u8(..10) == 0 { 0.4 } else { 0.0 };
                        level + 0.01 * normal + pause
                    }
                }
            })
            .collect()
    }

    /// Of [`PAIRS`], those in which any of five measures differs, the second of which is larger by `factor`.
    fn found(seed: u64, noise: Noise, factor: f64, count: usize) -> usize {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut differs = || {
            (0..5).any(|_| {
                let before = pieces(&mut random, noise, 5.0, count);
                let after = pieces(&mut random, noise, 5.0 + f64::ln(factor), count);
                let shift = unpaired(&before, &after, ERROR).unwrap();
                shift.low > NOISE || shift.high < -NOISE
            })
        };
        (0..PAIRS).filter(|_| differs()).count()
    }

    #[test]
    fn the_same_thing_twice_is_no_difference_in_95_of_100() {
        for noise in [Noise::White, Noise::Leaning, Noise::Pauses] {
            for count in [5, 10, 30, 300] {
                let found = found(11, noise, 1.0, count);
                assert!(
                    found <= PAIRS / 20,
                    "{found} of {PAIRS} with {count} pieces"
                );
            }
        }
    }

    #[test]
    fn a_shift_of_five_per_cent_is_found() {
        for (noise, count) in [
            (Noise::White, 10),
            (Noise::Leaning, 30),
            (Noise::Pauses, 300),
        ] {
            let found = found(12, noise, 1.05, count);
            assert!(
                found >= PAIRS * 95 / 100,
                "{found} of {PAIRS} with {count} pieces"
            );
        }
    }

    #[test]
    fn what_differs_between_runs_is_seen_by_pairs_and_not_by_pieces() {
        // Each run has a level of its own, 3 % around the same: of one pair it looks like a difference.
        let mut random = fastrand::Rng::with_seed(13);
        let mut run = |factor: f64| {
            let level = 5.0 + 0.03 * normal_number(&mut random) + factor.ln();
            pieces(&mut random, Noise::White, level, 30)
        };
        let mut judged = |factor: f64| {
            let pairs: Vec<_> = (0..20).map(|_| [run(1.0), run(factor)]).collect();
            let shift = paired(&pairs, ERROR).unwrap();
            let alone = unpaired(&pairs[0][0], &pairs[0][1], ERROR).unwrap();
            [shift, alone].map(|shift| shift.low > NOISE || shift.high < -NOISE)
        };
        let same: Vec<_> = (0..200).map(|_| judged(1.0)).collect();
        assert!(same.iter().filter(|found| found[0]).count() <= 10);
        assert!(
            same.iter().filter(|found| found[1]).count() >= 50,
            "one pair misleads"
        );
        let shifted = (0..200).filter(|_| judged(1.08)[0]).count();
        assert!(shifted >= 190, "{shifted}");
    }

    #[test]
    fn students_deviate_is_the_one_in_the_tables() {
        for (error, freedom, table) in [
            (0.05, 2.0, 4.303),
            (0.05, 4.0, 2.776),
            (0.05, 30.0, 2.042),
            (0.002, 4.0, 7.173),
            (0.002, 9.0, 4.297),
            (0.002, 18.0, 3.610),
            (0.002, 120.0, 3.160),
            (0.01, 3.0, 5.841),
        ] {
            let deviate = student(error, freedom);
            let off = (deviate / table - 1.0).abs();
            assert!(off < 0.003, "{error}, {freedom}: {deviate} and not {table}");
        }
    }

    #[test]
    fn few_pieces_say_nothing() {
        assert_eq!(unpaired(&[1.0; 4], &[1.0; 30], ERROR), None);
        assert_eq!(paired(&vec![[vec![1.0], vec![1.0]]; 4], ERROR), None);
    }
}
