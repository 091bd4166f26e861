//! Files of keys, watched while the gateway runs: a key that was added or revoked counts within seconds, without a
//! restart. A file with a mistake changes nothing but a counter and a line of the log.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use limiter::KeyHasher;

use crate::config::{
    AuthenticatorConfig, AuthenticatorKind, Config, ConsumerConfig, FileState, file_state,
    read_key_file,
};
use crate::data::auth::{AuthPlan, KeyCell, KeyTable};
use crate::data::plan::Plan;
use crate::telemetry::{ProcessMetrics, log};

/// Between two looks at a file: a `stat` each.
const INTERVAL: Duration = Duration::from_secs(1);

/// The files of keys, and where their tables are published.
#[derive(Debug, Default)]
pub struct Credentials {
    files: Vec<File>,
    consumers: Arc<[ConsumerConfig]>,
    hasher: Option<KeyHasher>,
}

#[derive(Debug)]
struct File {
    /// Index of the authenticator.
    authenticator: usize,
    name: String,
    path: Arc<Path>,
    cell: KeyCell,
    seen: Option<FileState>,
}

impl Credentials {
    /// The files of `config`, whose tables `plan` holds.
    #[must_use]
    pub fn new(config: &Config, plan: &Plan) -> Self {
        let files = config
            .authenticators
            .iter()
            .zip(&plan.authenticators)
            .enumerate();
        let file =
            |(authenticator, (each, compiled)): (usize, (&AuthenticatorConfig, &AuthPlan))| {
                let AuthenticatorKind::ApiKeys(keys) = &each.kind;
                File {
                    authenticator,
                    name: each.name.clone(),
                    path: keys.file.as_path().into(),
                    cell: Arc::clone(compiled.keys()),
                    seen: keys.state,
                }
            };
        Self {
            files: files.map(file).collect(),
            consumers: config.consumers.clone().into(),
            hasher: Some(plan.hasher),
        }
    }

    /// Looks at every file again and again; never returns, but where there is none.
    pub(super) async fn watch(mut self, process: Arc<ProcessMetrics>) {
        let Some(hasher) = self.hasher.filter(|_| !self.files.is_empty()) else {
            return;
        };
        loop {
            for file in &mut self.files {
                file.look(&self.consumers, hasher, &process).await;
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }
}

impl File {
    async fn look(
        &mut self,
        consumers: &Arc<[ConsumerConfig]>,
        hasher: KeyHasher,
        process: &ProcessMetrics,
    ) {
        let path = Arc::clone(&self.path);
        // A file may lie on a disk that does not answer.
        let now = tokio::task::spawn_blocking(move || file_state(&path)).await;
        let Some(now) = now.ok().filter(|now| *now != self.seen) else {
            return;
        };
        let (path, consumers) = (Arc::clone(&self.path), Arc::clone(consumers));
        // A million keys take a second: on one of the runtime's few blocking threads.
        let read =
            move || read_key_file(&path).map(|keys| KeyTable::new(&keys, &consumers, hasher));
        let read = tokio::task::spawn_blocking(read).await;
        let read = read.unwrap_or_else(|panic| Err(panic.to_string()));
        process.credentials_loaded(self.authenticator, read.is_ok());
        match read {
            Ok(table) => {
                let keys = table.len();
                self.cell.store(Arc::new(table));
                let fields: log::Fields<'_> = &[("authenticator", &self.name), ("keys", &keys)];
                log::info("keys were read again", fields);
            }
            Err(problem) => {
                let kept = self.cell.load().len();
                let fields: log::Fields<'_> = &[
                    ("authenticator", &self.name),
                    ("problem", &problem),
                    ("keys_kept", &kept),
                ];
                log::warn("keys could not be read again", fields);
            }
        }
        self.seen = now;
    }
}
