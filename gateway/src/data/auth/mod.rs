//! Who a caller is: credentials found in the request, judged, and taken out of it. No I/O, no clock.
//!
//! A route names authenticators; the first that knows the caller decides. What an authenticator knows is a table that
//! the control plane builds and replaces; a worker keeps what it saw last and looks for another once in a while, so that a
//! request touches nothing that workers share.

mod api_keys;
mod basic;
mod cache;
mod challenge;
mod credential;
mod elsewhere;
mod signature;
mod take_out;
mod token;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use limiter::KeyHasher;

pub use api_keys::KeyTable;
pub use basic::PasswordTable;
use basic::Passwords;
use cache::TokenCache;
pub(in crate::data) use challenge::challenges;
use credential::Credential;
pub(in crate::data) use elsewhere::{Answered, Refusal, Verdict, judge};

use crate::config::{
    AccessConfig, AuthenticatorConfig, AuthenticatorKind, ConsumerConfig, CredentialPlace,
    ForwardAuthConfig, JwtConfig, JwtKeys, KeySet,
};
use crate::data::codec::Fields;
use crate::data::error::Error;

/// What is known of a caller.
#[derive(Debug)]
pub struct Identity {
    /// The consumer's name: visible ASCII.
    pub name: Box<str>,
    /// Its groups.
    pub groups: Vec<Box<str>>,
    /// Its plan.
    pub plan: Option<Box<str>>,
    /// Claims of its token that limits count by, with their values as text.
    pub claims: Vec<(Box<str>, Box<str>)>,
    /// The field lines that tell the upstream.
    pub lines: Box<[u8]>,
}

impl Identity {
    /// Of a caller that was let in without a name.
    #[must_use]
    pub fn nobody() -> Self {
        Self {
            name: Box::default(),
            groups: Vec::new(),
            plan: None,
            claims: Vec::new(),
            lines: Box::default(),
        }
    }

    /// Of a consumer; all texts must be valid in fields.
    #[must_use]
    pub fn new(name: &str, groups: &[String], plan: Option<&str>) -> Self {
        let mut lines = format!("X-Consumer: {name}\r\n");
        if !groups.is_empty() {
            lines += &format!("X-Consumer-Groups: {}\r\n", groups.join(", "));
        }
        if let Some(plan) = plan {
            lines += &format!("X-Consumer-Plan: {plan}\r\n");
        }
        Self {
            name: name.into(),
            groups: groups.iter().map(|group| group.as_str().into()).collect(),
            plan: plan.map(Into::into),
            claims: Vec::new(),
            lines: lines.into_bytes().into(),
        }
    }

    /// Of the consumer with this name, with what the configuration says of it.
    #[must_use]
    pub fn of(name: &str, consumers: &[ConsumerConfig]) -> Self {
        let known = consumers.iter().find(|consumer| consumer.name == name);
        let groups = known.map_or(&[][..], |consumer| &consumer.groups);
        Self::new(
            name,
            groups,
            known.and_then(|consumer| consumer.plan.as_deref()),
        )
    }

    /// The value of a claim of its token.
    #[must_use]
    pub fn claim(&self, name: &str) -> Option<&str> {
        let found = self.claims.iter().find(|(each, _)| **each == *name);
        found.map(|(_, value)| &**value)
    }

    /// Whether it is in one of `groups`; none asks for nothing.
    fn is_in(&self, groups: &[String]) -> bool {
        groups.is_empty()
            || self
                .groups
                .iter()
                .any(|own| groups.iter().any(|group| **group == **own))
    }
}

/// What an authenticator knows; written by the control plane.
pub type Cell<T> = Arc<ArcSwap<T>>;

/// An authenticator compiled for workers.
#[derive(Debug)]
pub struct AuthPlan {
    /// The value of `WWW-Authenticate`.
    challenge: String,
    /// Where a request holds its credential; of one that is asked elsewhere, what is taken out of the request.
    places: Vec<CredentialPlace>,
    /// Request fields that are never the client's to say, since this one does.
    told: Vec<String>,
    forward_credentials: bool,
    /// What it knows.
    pub known: Known,
    consumers: Arc<[ConsumerConfig]>,
    hasher: KeyHasher,
}

/// What an authenticator knows, where the control plane publishes it.
#[derive(Debug)]
pub enum Known {
    /// Keys and whose they are.
    Keys(Cell<KeyTable>),
    /// Keys that tokens are verified with, what else is asked of a token, and where the keys are fetched, when that can be
    /// asked for.
    Tokens(Cell<KeySet>, Box<JwtConfig>, Option<Arc<EarlyFetch>>),
    /// Users with what their passwords are verified with, and how many callers a worker remembers.
    Passwords(Cell<PasswordTable>, u32),
    /// Nothing: an upstream is asked.
    Elsewhere(Box<ForwardAuthConfig>),
}

/// Whether a token with an unknown key may have its set fetched before its time. Closed by the control plane for as long as
/// nobody may ask, so that a flood of such tokens costs a load each and reaches nobody.
#[derive(Debug, Default)]
pub struct EarlyFetch(AtomicBool);

impl EarlyFetch {
    /// Opens or closes it.
    pub fn allow(&self, open: bool) {
        // Pairs with nothing: who sees it late is told so by who fetches.
        self.0.store(open, Ordering::Relaxed);
    }

    /// Whether one may ask now.
    fn is_open(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl AuthPlan {
    /// Compiles an authenticator.
    #[must_use]
    pub fn new(
        config: &AuthenticatorConfig,
        consumers: &Arc<[ConsumerConfig]>,
        hasher: KeyHasher,
    ) -> Self {
        let mut told = Vec::new();
        let (known, places) = match &config.kind {
            AuthenticatorKind::ApiKeys(keys) => {
                let table = KeyTable::new(&keys.keys, consumers, hasher);
                (
                    Known::Keys(Arc::new(ArcSwap::from_pointee(table))),
                    vec![keys.from.clone()],
                )
            }
            AuthenticatorKind::Jwt(jwt) => {
                let set = Arc::new(ArcSwap::from_pointee(jwt.keys.clone()));
                let is_fetched = matches!(jwt.source, JwtKeys::Url(_));
                let early = is_fetched.then(Arc::default);
                (
                    Known::Tokens(set, jwt.clone(), early),
                    vec![jwt.from.clone()],
                )
            }
            AuthenticatorKind::Basic(basic) => {
                let table = PasswordTable::new(&basic.passwords);
                let cell = Arc::new(ArcSwap::from_pointee(table));
                let places = vec![CredentialPlace::Basic];
                (Known::Passwords(cell, basic.cache), places)
            }
            AuthenticatorKind::Forward(forward) => {
                told.clone_from(&forward.copy);
                let names = [&forward.consumer, &forward.groups, &forward.plan];
                told.extend(names.into_iter().flatten().cloned());
                let places = forward.credentials.clone();
                (Known::Elsewhere(forward.clone()), places)
            }
        };
        let bearer = matches!(places.first(), Some(CredentialPlace::Header(name)) if name == AUTHORIZATION)
            || matches!(known, Known::Tokens(..));
        let scheme = if bearer { "Bearer" } else { "ApiKey" };
        let challenge = match &config.kind {
            // RFC 7617, 2.1: names and passwords are UTF-8 here.
            AuthenticatorKind::Basic(basic) => {
                format!("Basic realm=\"{}\", charset=\"UTF-8\"", basic.realm)
            }
            AuthenticatorKind::Forward(forward) => forward.challenge.clone(),
            _ => format!("{scheme} realm=\"{}\"", config.name),
        };
        Self {
            challenge,
            places,
            told,
            forward_credentials: config.forward_credentials,
            known,
            consumers: Arc::clone(consumers),
            hasher,
        }
    }
}

impl AuthPlan {
    /// What is known of callers besides their name.
    pub(in crate::data) fn consumers(&self) -> &[ConsumerConfig] {
        &self.consumers
    }
}

const AUTHORIZATION: &str = "authorization";

/// What a worker knows: for each authenticator what it saw last.
#[derive(Debug)]
pub(in crate::data) struct Tables(Vec<Table>);

#[derive(Debug)]
enum Table {
    Keys(RefCell<Rc<Seen>>),
    Tokens(RefCell<Tokens>),
    Passwords(RefCell<Passwords>),
    Elsewhere,
    /// Keys that are not here, since nobody fetches them: see [`Tables::unfetched`].
    Unfetched,
}

/// A table as one worker holds it; counting its users costs no shared write.
#[derive(Debug)]
struct Seen(Arc<KeyTable>);

/// Keys as one worker holds them, and what it has verified with them.
#[derive(Debug)]
struct Tokens {
    set: Arc<KeySet>,
    cache: TokenCache,
}

impl Tables {
    /// What is there now.
    pub(in crate::data) fn new(plans: &[AuthPlan]) -> Self {
        let see = |plan: &AuthPlan| match &plan.known {
            Known::Keys(cell) => Table::Keys(RefCell::new(Rc::new(Seen(cell.load_full())))),
            Known::Tokens(cell, config, _) => Table::Tokens(RefCell::new(Tokens {
                set: cell.load_full(),
                cache: TokenCache::new(config.cache as usize),
            })),
            Known::Passwords(cell, cache) => {
                let most = *cache as usize;
                let passwords = Passwords::new(cell.load_full(), most, plan.hasher);
                Table::Passwords(RefCell::new(passwords))
            }
            Known::Elsewhere(_) => Table::Elsewhere,
        };
        Self(plans.iter().map(see).collect())
    }

    /// As [`Self::new`], for who explains and fetches nothing: of a token whose keys are fetched it cannot be said whose it is
    /// ([`Error::Unverified`]), only whose it would be ([`suppose`]).
    pub(in crate::data) fn unfetched(plans: &[AuthPlan]) -> Self {
        let mut tables = Self::new(plans);
        for (table, plan) in tables.0.iter_mut().zip(plans) {
            if matches!(plan.known, Known::Tokens(_, _, Some(_))) {
                *table = Table::Unfetched;
            }
        }
        tables
    }

    /// Looks for newer tables: a load for each authenticator.
    pub(in crate::data) fn refresh(&self, plans: &[AuthPlan]) {
        for (table, plan) in self.0.iter().zip(plans) {
            match (table, &plan.known) {
                (Table::Keys(seen), Known::Keys(cell)) => {
                    let newest = cell.load();
                    if !Arc::ptr_eq(&newest, &seen.borrow().0) {
                        *seen.borrow_mut() = Rc::new(Seen(Arc::clone(&newest)));
                    }
                }
                (Table::Tokens(tokens), Known::Tokens(cell, ..)) => {
                    let newest = cell.load();
                    let mut tokens = tokens.borrow_mut();
                    if !Arc::ptr_eq(&newest, &tokens.set) {
                        tokens.set = Arc::clone(&newest);
                        // A key that is gone must not live on in what it has signed.
                        tokens.cache.clear();
                    }
                }
                (Table::Passwords(passwords), Known::Passwords(cell, _)) => {
                    let newest = cell.load();
                    let mut passwords = passwords.borrow_mut();
                    if !Arc::ptr_eq(&newest, &passwords.table) {
                        passwords.replace(Arc::clone(&newest));
                    }
                }
                (Table::Elsewhere, Known::Elsewhere(_)) => {}
                _ => debug_assert!(false, "tables are made in the order of the plans"),
            }
        }
    }
}

/// A password that has to be verified before anybody can say whose it is.
pub(in crate::data) struct Unverified {
    pub(in crate::data) table: Arc<PasswordTable>,
    pub(in crate::data) user: Box<str>,
    pub(in crate::data) password: Vec<u8>,
}

/// What an authenticator said that had to be waited for.
#[derive(Clone, Debug)]
pub(in crate::data) struct Verified {
    /// The authenticator, by its index in the plan.
    pub(in crate::data) by: usize,
    /// What it said.
    pub(in crate::data) verdict: Verdict,
}

/// What there is to say of a password that is not right.
pub(in crate::data) const PASSWORD_WRONG: &str = "password_wrong";

impl Tables {
    /// What is to be verified of a credential for the authenticator `by`; `None`: it is no name and password.
    pub(in crate::data) fn unverified(&self, by: usize, credential: &[u8]) -> Option<Unverified> {
        let Table::Passwords(passwords) = self.0.get(by)? else {
            return None;
        };
        let (user, password) = basic::parse(credential)?;
        Some(Unverified {
            table: Arc::clone(&passwords.borrow().table),
            user,
            password,
        })
    }

    /// Whether what `by` waits for is a newer set of keys, and not a password.
    pub(in crate::data) fn waits_for_keys(&self, by: usize) -> bool {
        matches!(self.0.get(by), Some(Table::Tokens(_)))
    }

    /// Whose token it is by the keys that are here by now; nobody waits a second time.
    pub(in crate::data) fn judge_again(
        &self,
        (by, plan): (usize, &AuthPlan),
        credential: &[u8],
        now: u64,
    ) -> Result<Rc<Identity>, &'static str> {
        let judged = self.0[by].judge(plan, credential, now);
        match judged.map(|caller| caller.0) {
            Ok(Who::Told(identity)) => Ok(identity),
            Err(Unknown::Wrong(reason)) => Err(reason),
            Ok(Who::Listed(..)) | Err(Unknown::Unverified | Unknown::NoKeys) => {
                Err(token::KEY_UNKNOWN)
            }
        }
    }

    /// Whose a credential is that was right by `table`; remembers it, unless there is a newer table.
    pub(in crate::data) fn remember(
        &self,
        (by, plan): (usize, &AuthPlan),
        table: &Arc<PasswordTable>,
        credential: &[u8],
        user: &str,
    ) -> Rc<Identity> {
        let identity = Rc::new(Identity::of(user, &plan.consumers));
        if let Some(Table::Passwords(passwords)) = self.0.get(by) {
            let mut passwords = passwords.borrow_mut();
            if Arc::ptr_eq(table, &passwords.table) {
                passwords.put(credential, plan.hasher, Rc::clone(&identity));
            }
        }
        identity
    }
}

/// Why a credential names nobody.
enum Unknown {
    /// It is wrong.
    Wrong(&'static str),
    /// Nobody can say yet.
    Unverified,
    /// Nobody can say: there are no keys.
    NoKeys,
}

impl From<&'static str> for Unknown {
    fn from(reason: &'static str) -> Self {
        Self::Wrong(reason)
    }
}

impl Table {
    /// Whose credential this is, at a second of Unix time.
    fn judge(&self, plan: &AuthPlan, credential: &[u8], now: u64) -> Result<Caller, Unknown> {
        match (self, &plan.known) {
            (Self::Keys(seen), _) => {
                let table = seen.borrow();
                let identity = table.0.find(credential).ok_or("api_key_unknown")?;
                Ok(Caller(Who::Listed(Rc::clone(&table), identity)))
            }
            (Self::Tokens(tokens), Known::Tokens(_, config, early)) => {
                let mut tokens = tokens.borrow_mut();
                if tokens.set.keys.is_empty() {
                    return Err(Unknown::NoKeys);
                }
                let hash = plan.hasher.bytes(end_of(credential)).hash();
                if let Some(identity) = tokens.cache.find(hash, credential, now) {
                    return Ok(Caller(Who::Told(identity)));
                }
                let consumers = &plan.consumers;
                let verified = token::verify(credential, config, &tokens.set, consumers, now);
                let verified = verified.map_err(|refusal| match refusal {
                    token::Refusal::Reason(reason) => Unknown::Wrong(reason),
                    token::Refusal::NewKey if early.as_ref().is_some_and(|it| it.is_open()) => {
                        Unknown::Unverified
                    }
                    token::Refusal::NewKey => Unknown::Wrong(token::KEY_UNKNOWN),
                })?;
                let identity = Rc::new(verified.identity);
                let known = Rc::clone(&identity);
                tokens.cache.put(hash, credential, known, verified.until);
                Ok(Caller(Who::Told(identity)))
            }
            (Self::Passwords(passwords), _) => {
                let known = passwords.borrow_mut().find(credential, plan.hasher);
                known
                    .map(|identity| Caller(Who::Told(identity)))
                    .ok_or(Unknown::Unverified)
            }
            (Self::Elsewhere | Self::Unfetched, _) => Err(Unknown::Unverified),
            (Self::Tokens(_), _) => Err("authenticator_mismatch".into()),
        }
    }
}

/// What would be said of a token if its issuer made it, by its claims alone. For who explains: nothing is verified here.
/// `None`: no tokens are read by this.
pub(in crate::data) fn suppose(plan: &AuthPlan, token: &[u8], now: u64) -> Option<Verdict> {
    let Known::Tokens(_, config, _) = &plan.known else {
        return None;
    };
    let identity = token::suppose(token, config, &plan.consumers, now);
    Some(identity.map_or_else(Verdict::Wrong, |identity| Verdict::Is(Rc::new(identity))))
}

/// Where to look for a token: by its end, which is of its signature, so that nobody can choose it; hashing all of it would cost
/// more than everything else about one that is remembered. Whether it is the same token is seen by comparing the whole.
fn end_of(token: &[u8]) -> &[u8] {
    const BYTES: usize = 32;
    token.last_chunk::<BYTES>().map_or(token, |end| end)
}

/// A caller that an authenticator knows.
#[derive(Clone, Debug)]
pub(in crate::data) struct Caller(Who);

#[derive(Clone, Debug)]
enum Who {
    /// An identity of a table, by its number.
    Listed(Rc<Seen>, usize),
    /// An identity that a token told.
    Told(Rc<Identity>),
}

impl Caller {
    /// What is known of it.
    pub(in crate::data) fn identity(&self) -> &Identity {
        match &self.0 {
            Who::Listed(table, identity) => table.0.identity(*identity),
            Who::Told(identity) => identity,
        }
    }
}

/// Why a caller is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::data) struct Denied {
    /// A stable identifier.
    pub(in crate::data) reason: &'static str,
    /// The authenticator, by its index in the plan, whose credential was wrong; `None`: there was none.
    pub(in crate::data) by: Option<usize>,
}

impl Denied {
    /// There was no credential that could have been wrong.
    pub(in crate::data) const NOTHING: Self = Self {
        reason: "credentials_missing",
        by: None,
    };
}

/// A request as authenticators see it.
#[derive(Debug)]
pub(in crate::data) struct Request<'a> {
    /// The request head that `fields` points into.
    pub(in crate::data) head: &'a [u8],
    /// Its fields.
    pub(in crate::data) fields: &'a Fields,
    /// Without `?`.
    pub(in crate::data) query: Option<&'a [u8]>,
    /// When it came, in seconds of Unix time.
    pub(in crate::data) now: u64,
    /// What was said by authenticators that had to be waited for.
    pub(in crate::data) verified: &'a [Verified],
}

/// Asks the authenticators of a route. `None`: it lets nobody in particular in.
///
/// `buffer`: memory that is used again, to decode credentials in.
///
/// # Errors
///
/// [`Error::Unverified`]: the credential in `buffer` is a password that has to be verified first, or a token whose key may be in
/// a newer set, or the authenticator has to be asked elsewhere; what comes of it belongs into `Request::verified`.
/// [`Error::KeysMissing`]: nobody can say whose a token is. [`Error::AuthRefused`], [`Error::AuthSilent`]: the one elsewhere did not
/// let it in, and no other did. [`Error::Unauthorized`]: no authenticator knows the caller. [`Error::Forbidden`]: it is in none of
/// the route's groups.
pub(in crate::data) fn authenticate(
    access: &AccessConfig,
    plans: &[AuthPlan],
    tables: &Tables,
    request: &Request<'_>,
    buffer: &mut Vec<u8>,
) -> Result<Option<Caller>, Error> {
    let mut denied = Denied::NOTHING;
    let mut elsewhere = None;
    let mut keys_missing = false;
    for &index in &access.auth {
        let plan = &plans[index];
        let mut verified = request.verified.iter();
        let verdict = verified.find(|each| each.by == index);
        let is_elsewhere = matches!(plan.known, Known::Elsewhere(_));
        // That one is asked about every request that comes to it.
        let found = match plan.places.first().filter(|_| !is_elsewhere) {
            None => Credential::One,
            Some(place) => request.credential(place, buffer),
        };
        let found = match (found, verdict.map(|each| &each.verdict)) {
            (Credential::None, _) => continue,
            (Credential::Several, _) => Err(Unknown::Wrong("credentials_several")),
            (Credential::One, None) => tables.0[index].judge(plan, buffer, request.now),
            (Credential::One, Some(Verdict::Is(identity))) => {
                Ok(Caller(Who::Told(Rc::clone(identity))))
            }
            (Credential::One, Some(Verdict::Wrong(reason))) => Err(Unknown::Wrong(reason)),
            (Credential::One, Some(told)) => {
                elsewhere = Some((plan, told));
                continue;
            }
        };
        match found {
            Ok(caller) => {
                let may = caller.identity().is_in(&access.groups);
                return if may {
                    Ok(Some(caller))
                } else {
                    Err(Error::Forbidden("group_missing"))
                };
            }
            // The first wrong one is told.
            Err(Unknown::Unverified) => return Err(Error::Unverified(index)),
            Err(Unknown::NoKeys) => keys_missing = true,
            Err(Unknown::Wrong(reason)) if denied.by.is_none() => {
                denied = Denied {
                    reason,
                    by: Some(index),
                };
            }
            Err(Unknown::Wrong(_)) => {}
        }
    }
    if let Some((plan, told)) = elsewhere {
        return unless_let_in(plan, told);
    }
    // It may be right: that nobody can say is not the caller's fault.
    if keys_missing {
        return Err(Error::KeysMissing);
    }
    if access.optional && denied.by.is_none() {
        return Ok(None);
    }
    Err(Error::Unauthorized(denied))
}

/// What becomes of a request that an authenticator elsewhere does not let in, and none beside it.
#[cold]
fn unless_let_in(plan: &AuthPlan, told: &Verdict) -> Result<Option<Caller>, Error> {
    let lets_in = matches!(&plan.known, Known::Elsewhere(config) if config.lets_in);
    Err(match told {
        Verdict::Silent(_) if lets_in => return Ok(None),
        Verdict::Silent(reason) => Error::AuthSilent(reason),
        Verdict::Refused(refusal) => Error::AuthRefused(refusal.status, Rc::clone(refusal)),
        Verdict::Forbidden(reason) => Error::Forbidden(reason),
        Verdict::Is(_) | Verdict::Wrong(_) => Error::Forbidden("auth_refused"),
    })
}

pub(in crate::data) use take_out::{TakenOut, take_out};
