//! Key sets that are fetched: at the start, again and again, and before their time where a token names a key that a set lacks.
//!
//! One task for each URL, so never two fetches of one at a time. What is published is the last good set; a failure changes
//! nothing until the set is too old. Workers ask for an early fetch through the plan's queue, and only while `EarlyFetch`
//! is open: it is closed for `jwks_cooldown` after each fetch, so a flood of made-up keys causes one fetch in that time.

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::fetch::{self, Tls};
use crate::config::{
    AuthenticatorKind, Config, JwtAlgorithm, JwtKeys, KEY_SET_BYTES_MAX, KeySet, KeyUrl,
};
use crate::data::auth::{Cell, EarlyFetch, Known};
use crate::data::plan::Plan;
use crate::data::verify::KeyAsk;
use crate::telemetry::{KeySetCounts, ProcessMetrics, log};

/// Tokens that may wait for one set, beside those in the plan's queue.
const WAITING_MAX: usize = 64;
/// How long the start waits for sets; tokens that have none by then get 503 until they do.
const FIRST_SETS: Duration = Duration::from_secs(3);
/// What an answer may ask for at least and at most, and what there is where it asks for nothing.
const REFRESH: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(86_400));
const REFRESH_UNSAID: Duration = Duration::from_secs(300);
/// From a failure to the next try: doubled each time, up to the second.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// The sets to fetch.
#[derive(Debug, Default)]
pub struct KeySets(Vec<Source>);

/// A set, and where it is published.
#[derive(Debug)]
struct Source {
    url: Arc<KeyUrl>,
    users: Vec<User>,
}

/// An authenticator that uses it.
#[derive(Debug)]
struct User {
    authenticator: usize,
    name: String,
    /// What its tokens are signed by.
    algorithms: Vec<JwtAlgorithm>,
    cell: Cell<KeySet>,
    early: Arc<EarlyFetch>,
    /// When the set that it uses was fetched; `None`: there is none.
    fetched: Option<Instant>,
    /// The last set had no key for it, which was logged.
    unfit: bool,
}

/// Told once, when the first fetch of a set has ended: what was wrong, if the gateway must not start so.
pub(super) struct First {
    is_done: oneshot::Receiver<Result<(), String>>,
    /// Of the URL.
    required: bool,
}

/// Waits for the first sets: for a moment, and for those that are required until they are there.
///
/// # Errors
///
/// One that is required cannot be had.
pub(super) async fn wait_for(firsts: Vec<First>) -> io::Result<()> {
    let moment = Instant::now() + FIRST_SETS;
    for First { is_done, required } in firsts {
        let told = if required {
            // Its fetch has a timeout of its own.
            is_done.await
        } else {
            let Ok(told) = timeout_at(moment, is_done).await else {
                continue;
            };
            told
        };
        if let Ok(Err(problem)) = told {
            return Err(io::Error::other(problem));
        }
    }
    Ok(())
}

impl KeySets {
    /// The sets of `config`, published in `plan`.
    #[must_use]
    pub fn new(config: &Config, plan: &Plan) -> Self {
        let mut sources: Vec<Source> = Vec::new();
        let all = config.authenticators.iter().zip(&plan.authenticators);
        for (authenticator, (config, plan)) in all.enumerate() {
            let (AuthenticatorKind::Jwt(jwt), Known::Tokens(cell, _, Some(early))) =
                (&config.kind, &plan.known)
            else {
                continue;
            };
            let JwtKeys::Url(url) = &jwt.source else {
                continue;
            };
            let user = User {
                authenticator,
                name: config.name.clone(),
                algorithms: jwt.algorithms.clone(),
                cell: Arc::clone(cell),
                early: Arc::clone(early),
                fetched: None,
                unfit: false,
            };
            match sources.iter_mut().find(|source| source.url == *url) {
                Some(source) => source.users.push(user),
                None => sources.push(Source {
                    url: Arc::clone(url),
                    users: vec![user],
                }),
            }
        }
        Self(sources)
    }

    /// Begins to fetch them all, and passes on what workers ask for.
    pub(super) fn spawn(self, plan: &Arc<Plan>, process: &Arc<ProcessMetrics>) -> Vec<First> {
        let mut firsts = Vec::new();
        let mut ways = Vec::new();
        for source in self.0 {
            let (first, is_done) = oneshot::channel();
            let (way, asks) = mpsc::channel(WAITING_MAX);
            let by: Vec<_> = source.users.iter().map(|user| user.authenticator).collect();
            ways.push((by, way));
            let required = source.url.required;
            firsts.push(First { is_done, required });
            for user in &source.users {
                process
                    .key_set(user.authenticator)
                    .map(KeySetCounts::watched);
            }
            let process = Arc::clone(process);
            let keeper = Keeper {
                source,
                process,
                tls: None,
                failures: 0,
                asks,
                waiting: None,
            };
            tokio::spawn(keeper.run(first));
        }
        if !ways.is_empty() {
            let queue = plan.key_asks.queue.clone();
            tokio::spawn(async move {
                while let Ok(ask) = queue.recv_async().await {
                    let way = ways.iter().find(|(by, _)| by.contains(&ask.by));
                    // One that finds no place is dropped, which ends its wait.
                    if let Some((_, way)) = way {
                        drop(way.try_send(ask));
                    }
                }
            });
        }
        firsts
    }
}

/// Keeps one set.
struct Keeper {
    source: Source,
    process: Arc<ProcessMetrics>,
    /// Made when it is first needed; reads files.
    tls: Option<Tls>,
    /// In a row.
    failures: u32,
    asks: mpsc::Receiver<KeyAsk>,
    /// The first of those that wait for the fetch under way; the others are in the channel.
    waiting: Option<KeyAsk>,
}

impl Keeper {
    /// Fetches for ever. Once the first is done it says so through `first`.
    async fn run(mut self, first: oneshot::Sender<Result<(), String>>) {
        let mut first = Some(first);
        loop {
            let result = self.fetch().await;
            let now = Instant::now();
            let published = result.and_then(|(set, left_out, fresh_for)| {
                self.publish(&set, left_out, now)?;
                Ok(fresh_for)
            });
            let mut told = Ok(());
            let pause = match published {
                Ok(fresh_for) => {
                    if self.source.url.required {
                        told = self.all_have_keys();
                    }
                    refresh(&self.source.url, fresh_for)
                }
                Err(problem) => {
                    self.failed(&problem);
                    if self.source.url.required {
                        let (names, url) = (self.names(), &self.source.url.url);
                        told = Err(format!(
                            "the keys of [jwt] {names} are required, and {url} gives none: {problem}"
                        ));
                    }
                    backoff(self.failures)
                }
            };
            self.allow_early(false);
            // Whoever asked until now is answered by this fetch; who comes later finds it closed.
            self.waiting = None;
            while self.asks.try_recv().is_ok() {}
            if let Some(first) = first.take() {
                // Fails when nobody waits for it any more.
                drop(first.send(told));
            }
            self.wait(now, now + pause).await;
        }
    }

    /// Until the next fetch, which is due at `next` unless a worker asks for it before.
    async fn wait(&mut self, fetched: Instant, next: Instant) {
        let cool = fetched + self.source.url.cooldown;
        let mut is_cool = false;
        loop {
            let stale = self.stale_at();
            tokio::select! {
                () = sleep_until(next) => return,
                () = sleep_until(cool), if !is_cool => {
                    is_cool = true;
                    self.allow_early(true);
                }
                () = sleep_until(stale.unwrap_or(next)), if stale.is_some() => {
                    self.give_up(Instant::now());
                }
                Some(ask) = self.asks.recv() => {
                    // Else it was sent before the gate was seen closed: it is dropped, which ends the wait.
                    if is_cool {
                        self.waiting = Some(ask);
                        self.each_count(KeySetCounts::early_fetch);
                        return;
                    }
                }
            }
        }
    }

    /// The set as it is now, how many keys of it are none for us, and how long it is fresh.
    async fn fetch(&mut self) -> Result<(KeySet, usize, Option<Duration>), String> {
        let url = Arc::clone(&self.source.url);
        if url.secure && self.tls.is_none() {
            let of = Arc::clone(&url);
            let made = tokio::task::spawn_blocking(move || fetch::tls(of.authorities.as_deref()));
            self.tls = Some(made.await.map_err(|panic| panic.to_string())??);
        }
        let bytes_max = usize::try_from(KEY_SET_BYTES_MAX).unwrap_or(usize::MAX);
        let fetched = fetch::get(&url, self.tls.as_ref(), bytes_max).await?;
        let (set, left_out) = KeySet::from_answer(&fetched.body)?;
        Ok((set, left_out, fetched.fresh_for))
    }

    /// Gives the set to those of whose tokens it can verify any; the others keep what they have.
    ///
    /// # Errors
    ///
    /// There is nobody whom it serves.
    fn publish(&mut self, set: &KeySet, left_out: usize, now: Instant) -> Result<(), String> {
        let fits = |user: &User| set.check_fit(&user.algorithms);
        let fits: Vec<_> = self.source.users.iter().map(fits).collect();
        if fits.iter().all(Result::is_err) {
            return fits.into_iter().collect();
        }
        let (keys, at) = (set.keys.len(), unix_seconds());
        let mut names: Vec<&str> = Vec::new();
        for (user, fits) in self.source.users.iter_mut().zip(fits) {
            self.process
                .credentials_loaded(user.authenticator, fits.is_ok());
            let was_unfit = std::mem::replace(&mut user.unfit, fits.is_err());
            if let Err(problem) = fits {
                if !was_unfit {
                    let url = &self.source.url.url;
                    log_failure(&user.name, url, &problem, user.fetched.is_some());
                }
                continue;
            }
            // The same set again must not make workers forget what they have verified with it.
            let changed = **user.cell.load() != *set;
            if changed {
                user.cell.store(Arc::new(set.clone()));
            }
            if changed || was_unfit || self.failures > 0 {
                names.push(&user.name);
            }
            user.fetched = Some(now);
            let counts = self.process.key_set(user.authenticator);
            if let Some(counts) = counts {
                counts.fetched(keys, at);
            }
        }
        if !names.is_empty() {
            let fields: log::Fields<'_> = &[
                ("authenticator", &names.join(", ")),
                ("url", &self.source.url.url),
                ("keys", &keys),
                ("left_out", &left_out),
            ];
            log::info("keys were fetched", fields);
        }
        self.failures = 0;
        Ok(())
    }

    /// Whether each that goes by this set has keys.
    ///
    /// # Errors
    ///
    /// Those that have none, for whom they are required.
    fn all_have_keys(&self) -> Result<(), String> {
        let users = self.source.users.iter();
        let without: Vec<&str> = users
            .filter(|user| user.fetched.is_none())
            .map(|user| user.name.as_str())
            .collect();
        if without.is_empty() {
            return Ok(());
        }
        let (names, url) = (without.join(", "), &self.source.url.url);
        Err(format!(
            "the keys of [jwt] {names} are required, and {url} gives none for their algorithms"
        ))
    }

    fn failed(&mut self, problem: &str) {
        for user in &self.source.users {
            self.process.credentials_loaded(user.authenticator, false);
        }
        // The first of a row: the others are counted.
        if self.failures == 0 {
            let has_keys = self.source.users.iter().any(|user| user.fetched.is_some());
            log_failure(&self.names(), &self.source.url.url, problem, has_keys);
        }
        self.failures = self.failures.saturating_add(1);
    }

    /// When the first set is too old to be used.
    fn stale_at(&self) -> Option<Instant> {
        let max_stale = self.source.url.max_stale?;
        let fetched = self.source.users.iter().filter_map(|user| user.fetched);
        fetched.min().map(|fetched| fetched + max_stale)
    }

    /// Uses the sets no longer that are too old now.
    fn give_up(&mut self, now: Instant) {
        let Some(max_stale) = self.source.url.max_stale else {
            return;
        };
        for user in &mut self.source.users {
            if user.fetched.is_none_or(|fetched| fetched + max_stale > now) {
                continue;
            }
            user.fetched = None;
            user.cell.store(Arc::default());
            self.process
                .key_set(user.authenticator)
                .map(KeySetCounts::given_up);
            let fields: log::Fields<'_> =
                &[("authenticator", &user.name), ("url", &self.source.url.url)];
            log::error("keys are too old and are not used any more", fields);
        }
    }

    fn allow_early(&self, open: bool) {
        for user in &self.source.users {
            user.early.allow(open);
        }
    }

    fn each_count(&self, count: impl Fn(&KeySetCounts)) {
        for user in &self.source.users {
            self.process.key_set(user.authenticator).map(&count);
        }
    }

    fn names(&self) -> String {
        let names: Vec<_> = self.source.users.iter().map(|it| &*it.name).collect();
        names.join(", ")
    }
}

/// From a fetch that went well to the next: not the same for all gateways that were started together.
fn refresh(url: &KeyUrl, fresh_for: Option<Duration>) -> Duration {
    let said = fresh_for.map(|fresh| fresh.clamp(REFRESH.0, REFRESH.1));
    let pause = url.refresh.or(said).unwrap_or(REFRESH_UNSAID);
    pause.mul_f64(0.9 + 0.2 * fastrand::f64())
}

/// From the last of so many failures to the next try: half of it is by chance, so that a server that comes back is not met by
/// all at once.
fn backoff(failures: u32) -> Duration {
    let doubled = 1 << failures.saturating_sub(1).min(16);
    let pause = BACKOFF.0.saturating_mul(doubled).min(BACKOFF.1);
    pause.mul_f64(0.5 + 0.5 * fastrand::f64())
}

fn log_failure(names: &str, url: &str, problem: &str, has_keys: bool) {
    let fields: log::Fields<'_> = &[
        ("authenticator", &names),
        ("url", &url),
        ("problem", &problem),
    ];
    let message = match has_keys {
        true => "keys could not be fetched, those that were known stay in use",
        false => "keys could not be fetched, and there are none",
    };
    log::warn(message, fields);
}

#[expect(
    clippy::disallowed_methods,
    reason = "the time of a fetch is for people who read metrics"
)]
fn unix_seconds() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(refresh: Option<u64>) -> KeyUrl {
        KeyUrl {
            url: "http://id.test/".into(),
            secure: false,
            host: "id.test".into(),
            port: 80,
            target: "/".into(),
            authorities: None,
            refresh: refresh.map(Duration::from_secs),
            timeout: Duration::from_secs(1),
            cooldown: Duration::from_secs(1),
            max_stale: None,
            required: false,
        }
    }

    fn is_about(pause: Duration, seconds: f64) -> bool {
        (0.9 * seconds..=1.1 * seconds).contains(&pause.as_secs_f64())
    }

    #[test]
    fn what_an_answer_asks_for_is_done_within_bounds() {
        let asked = |seconds| refresh(&url(None), Some(Duration::from_secs(seconds)));
        for _ in 0..100 {
            assert!(is_about(asked(600), 600.0));
            assert!(
                is_about(asked(0), 60.0),
                "a server must not make us hammer it"
            );
            assert!(
                is_about(asked(u64::MAX), 86_400.0),
                "nor keep a set for ever"
            );
            assert!(is_about(refresh(&url(None), None), 300.0));
            let fixed = refresh(&url(Some(10)), Some(Duration::from_secs(600)));
            assert!(is_about(fixed, 10.0), "{fixed:?}");
        }
    }

    #[test]
    fn failures_are_repeated_ever_more_slowly_and_by_chance() {
        for (failures, most) in [
            (1, 1.0),
            (2, 2.0),
            (3, 4.0),
            (6, 32.0),
            (7, 60.0),
            (u32::MAX, 60.0),
        ] {
            let pauses: Vec<f64> = (0..200).map(|_| backoff(failures).as_secs_f64()).collect();
            assert!(
                pauses.iter().all(|it| (0.5 * most..=most).contains(it)),
                "{failures}: {pauses:?}"
            );
            let (least, longest) = pauses
                .iter()
                .fold((f64::MAX, 0.0_f64), |(a, b), it| (a.min(*it), b.max(*it)));
            assert!(longest - least > 0.25 * most, "{failures}: all alike");
        }
    }
}
