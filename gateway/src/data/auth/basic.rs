//! Names and passwords: what is asked of a credential before somebody else verifies it, since that takes long.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use limiter::KeyHasher;
use ring::hmac;

use super::Identity;
use super::cache::TokenCache;
use crate::config::{Password, PasswordHash};

/// The users of an authenticator.
#[derive(Debug)]
pub struct PasswordTable {
    users: HashMap<Box<str>, PasswordHash>,
    /// What a password of nobody is verified with, so that it takes as long.
    stand_in: Option<PasswordHash>,
}

impl PasswordTable {
    /// Makes the table.
    #[must_use]
    pub fn new(passwords: &[Password]) -> Self {
        let entry = |password: &Password| (Box::from(&*password.user), password.hash.clone());
        Self {
            users: passwords.iter().map(entry).collect(),
            stand_in: passwords.first().map(|password| password.hash.clone()),
        }
    }

    /// Whether it is the user's password. Takes long: never on a worker. For a user that is not there as long as for the first one
    /// of the file.
    #[must_use]
    pub fn verify(&self, user: &str, password: &[u8]) -> bool {
        match (self.users.get(user), &self.stand_in) {
            (Some(hash), _) => hash.verify(password),
            (None, Some(hash)) => {
                let _whatever = std::hint::black_box(hash.verify(password));
                false
            }
            (None, None) => false,
        }
    }
}

/// The table as one worker holds it, and whose passwords it knows to be right.
#[derive(Debug)]
pub(super) struct Passwords {
    pub(super) table: Arc<PasswordTable>,
    known: TokenCache,
    /// Of this worker and this run: what is remembered is of no use to who reads its memory later.
    key: hmac::Key,
}

impl Passwords {
    pub(super) fn new(table: Arc<PasswordTable>, most: usize, hasher: KeyHasher) -> Self {
        // The hasher's secret is random; two keyed hashes of fixed texts are as good a key as they are.
        let mut key = [0; 32];
        for (part, place) in key.chunks_exact_mut(8).zip(0_u8..) {
            part.copy_from_slice(&hasher.bytes(&[b'p', place]).hash().to_le_bytes());
        }
        Self {
            table,
            known: TokenCache::new(most),
            key: hmac::Key::new(hmac::HMAC_SHA256, &key),
        }
    }

    /// Takes a newer table: what was right need not be any more.
    pub(super) fn replace(&mut self, table: Arc<PasswordTable>) {
        self.table = table;
        self.known.clear();
    }

    /// Whose credential this is, if it was verified. Costs a keyed hash of it.
    pub(super) fn find(&mut self, credential: &[u8], hasher: KeyHasher) -> Option<Rc<Identity>> {
        let tag = hmac::sign(&self.key, credential);
        let hash = hasher.bytes(tag.as_ref()).hash();
        self.known.find(hash, tag.as_ref(), 0)
    }

    /// Remembers a credential that is right.
    pub(super) fn put(&mut self, credential: &[u8], hasher: KeyHasher, identity: Rc<Identity>) {
        let tag = hmac::sign(&self.key, credential);
        let hash = hasher.bytes(tag.as_ref()).hash();
        self.known.put(hash, tag.as_ref(), identity, u64::MAX);
    }
}

/// Name and password of a credential (RFC 7617, section 2): UTF-8 up to the first colon, and the rest.
pub(super) fn parse(credential: &[u8]) -> Option<(Box<str>, Vec<u8>)> {
    let mut text = STANDARD.decode(credential).ok()?;
    let colon = text.iter().position(|&byte| byte == b':')?;
    let password = text.split_off(colon + 1);
    text.pop();
    let user = String::from_utf8(text).ok()?;
    Some((user.into(), password))
}
