//! Files of keys, watched while the gateway runs: a key that was added or revoked counts within seconds, without a
//! restart. A file with a mistake changes nothing but a counter and a line of the log.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{
    AuthenticatorConfig, AuthenticatorKind, Config, ConsumerConfig, FileState, file_state,
    read_key_file, read_key_set, read_password_file,
};
use crate::data::auth::{AuthPlan, KeyTable, Known, PasswordTable};
use crate::data::plan::Plan;
use crate::telemetry::{ProcessMetrics, log};

/// Between two looks at a file: a `stat` each.
const INTERVAL: Duration = Duration::from_secs(1);

/// The files of keys, and where what they hold is published.
#[derive(Debug, Default)]
pub struct Credentials(Vec<File>);

/// Reads a file and publishes what it holds; the number of keys. Waits for the disk.
type Load = Arc<dyn Fn() -> Result<usize, String> + Send + Sync>;

struct File {
    /// Index of the authenticator.
    authenticator: usize,
    name: String,
    path: Arc<Path>,
    seen: Option<FileState>,
    load: Load,
}

impl Credentials {
    /// The files of `config`, whose tables `plan` holds.
    #[must_use]
    pub fn new(config: &Config, plan: &Plan) -> Self {
        let consumers: Arc<[ConsumerConfig]> = config.consumers.clone().into();
        let hasher = plan.hasher;
        let file = |(authenticator, (config, plan)): (usize, (&AuthenticatorConfig, &AuthPlan))| {
            let (path, seen, load): (_, _, Load) = match (&config.kind, &plan.known) {
                (AuthenticatorKind::ApiKeys(keys), Known::Keys(cell)) => {
                    let (file, cell) = (keys.file.clone(), Arc::clone(cell));
                    let consumers = Arc::clone(&consumers);
                    let load = move || {
                        let keys = read_key_file(&file)?;
                        let table = KeyTable::new(&keys, &consumers, hasher);
                        cell.store(Arc::new(table));
                        Ok(keys.len())
                    };
                    (keys.file.as_path(), keys.state, Arc::new(load))
                }
                (AuthenticatorKind::Jwt(jwt), Known::Tokens(cell, ..)) => {
                    // Others are fetched, see `key_sets`.
                    let path = jwt.source.path()?;
                    let (source, cell) = (jwt.source.clone(), Arc::clone(cell));
                    let algorithms = jwt.algorithms.clone();
                    let load = move || {
                        let set = read_key_set(&source)?;
                        set.check_fit(&algorithms)?;
                        let count = set.keys.len();
                        cell.store(Arc::new(set));
                        Ok(count)
                    };
                    (path, jwt.state, Arc::new(load))
                }
                (AuthenticatorKind::Basic(basic), Known::Passwords(cell, _)) => {
                    let (file, cell) = (basic.file.clone(), Arc::clone(cell));
                    let load = move || {
                        let passwords = read_password_file(&file)?;
                        cell.store(Arc::new(PasswordTable::new(&passwords)));
                        Ok(passwords.len())
                    };
                    (basic.file.as_path(), basic.state, Arc::new(load))
                }
                _ => return None,
            };
            Some(File {
                authenticator,
                name: config.name.clone(),
                path: path.into(),
                seen,
                load,
            })
        };
        let files = config.authenticators.iter().zip(&plan.authenticators);
        Self(files.enumerate().filter_map(file).collect())
    }

    /// Looks at every file again and again; never returns, but where there is none.
    pub(super) async fn watch(mut self, process: Arc<ProcessMetrics>) {
        if self.0.is_empty() {
            return;
        }
        loop {
            for file in &mut self.0 {
                file.look(&process).await;
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("File")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl File {
    async fn look(&mut self, process: &ProcessMetrics) {
        let path = Arc::clone(&self.path);
        // A file may lie on a disk that does not answer.
        let now = tokio::task::spawn_blocking(move || file_state(&path)).await;
        let Some(now) = now.ok().filter(|now| *now != self.seen) else {
            return;
        };
        // A million keys take a second: on one of the runtime's few blocking threads.
        let load = Arc::clone(&self.load);
        let loaded = tokio::task::spawn_blocking(move || load()).await;
        let loaded = loaded.unwrap_or_else(|panic| Err(panic.to_string()));
        process.credentials_loaded(self.authenticator, loaded.is_ok());
        match loaded {
            Ok(keys) => {
                let fields: log::Fields<'_> = &[("authenticator", &self.name), ("keys", &keys)];
                log::info("keys were read again", fields);
            }
            Err(problem) => {
                let fields: log::Fields<'_> =
                    &[("authenticator", &self.name), ("problem", &problem)];
                let message = "keys could not be read again, those that were known stay in use";
                log::warn(message, fields);
            }
        }
        self.seen = now;
    }
}
