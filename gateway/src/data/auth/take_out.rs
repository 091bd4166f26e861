//! Takes credentials out of a request, so that neither the upstream nor the access log has them.

use super::{AuthPlan, CredentialPlace};
use crate::config::AccessConfig;
use crate::data::codec::{Fields, cookies, is_parameter};

/// A request's query and cookies without the credentials that they held. Used again from request to request.
#[derive(Clone, Debug, Default)]
pub(in crate::data) struct TakenOut {
    query: Vec<u8>,
    cookie: Vec<u8>,
    /// `query` is what may be logged.
    query_hidden: bool,
    /// `query` is what goes on.
    query_withheld: bool,
    /// `cookie` is what goes on.
    cookie_withheld: bool,
}

impl TakenOut {
    /// Nothing is taken out.
    pub(in crate::data) fn clear(&mut self) {
        self.query_hidden = false;
        self.query_withheld = false;
        self.cookie_withheld = false;
    }

    /// The query for the log, if it is not the one that was sent.
    pub(in crate::data) fn query_to_log(&self) -> Option<&[u8]> {
        self.query_hidden.then_some(&*self.query)
    }

    /// The query for the upstream, if it is not the one that was sent.
    pub(in crate::data) fn query(&self) -> Option<&[u8]> {
        self.query_withheld.then_some(&*self.query)
    }

    /// The cookies for the upstream, if they are not those that were sent.
    pub(in crate::data) fn cookie(&self) -> Option<&[u8]> {
        self.cookie_withheld.then_some(&*self.cookie)
    }

    /// Leaves the parameter `name` out of the query.
    fn drop_parameter(&mut self, sent: &[u8], name: &str) {
        let sent = if self.query_hidden {
            std::mem::take(&mut self.query)
        } else {
            self.query.clear();
            sent.to_vec()
        };
        self.query_hidden = true;
        for pair in sent.split(|&byte| byte == b'&') {
            if !is_parameter(pair, name) {
                if !self.query.is_empty() {
                    self.query.push(b'&');
                }
                self.query.extend_from_slice(pair);
            }
        }
    }

    /// Leaves the cookies `name` out.
    fn drop_cookie(&mut self, sent: &[u8], name: &str) {
        for pair in sent.split(|&byte| byte == b';') {
            let ours = cookies(pair).any(|(each, _)| each == name.as_bytes());
            let pair = pair.trim_ascii();
            if !ours && !pair.is_empty() {
                if !self.cookie.is_empty() {
                    self.cookie.extend_from_slice(b"; ");
                }
                self.cookie.extend_from_slice(pair);
            }
        }
    }
}

/// Takes out the credentials of all authenticators of a route, also those that were not needed or not right, and what only one
/// of them says.
///
/// Allocates only for credentials in queries and cookies.
pub(in crate::data) fn take_out(
    access: &AccessConfig,
    plans: &[AuthPlan],
    head: &[u8],
    fields: &mut Fields,
    query: Option<&[u8]>,
    taken: &mut TakenOut,
) {
    let plans = access.auth.iter().map(|&index| &plans[index]);
    for name in plans.clone().flat_map(|plan| &plan.told) {
        fields.withhold_posing(head, name.as_bytes());
    }
    let places = plans.flat_map(|plan| plan.places.iter().map(move |place| (plan, place)));
    for (plan, place) in places {
        let withhold = !plan.forward_credentials;
        match place {
            CredentialPlace::Header(name) if withhold => {
                fields.withhold(head, name.as_bytes());
            }
            CredentialPlace::Basic if withhold => fields.withhold(head, b"authorization"),
            CredentialPlace::Query(name) => {
                let Some(query) = query else { continue };
                let holds = |pair: &[u8]| is_parameter(pair, name);
                if query.split(|&byte| byte == b'&').any(holds) {
                    taken.drop_parameter(query, name);
                    taken.query_withheld |= withhold;
                }
            }
            CredentialPlace::Cookie(name) if withhold => {
                let sent: Vec<u8> = match taken.cookie() {
                    Some(left) => left.to_vec(),
                    None => {
                        let all: Vec<&[u8]> = fields.values(head, b"cookie").collect();
                        all.join(&b"; "[..])
                    }
                };
                if cookies(&sent).any(|(each, _)| each == name.as_bytes()) {
                    taken.cookie.clear();
                    taken.drop_cookie(&sent, name);
                    taken.cookie_withheld = true;
                    fields.withhold(head, b"cookie");
                }
            }
            CredentialPlace::Header(_) | CredentialPlace::Cookie(_) | CredentialPlace::Basic => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_parameter_is_taken_out_and_nothing_else() {
        for (sent, left) in [
            ("key=hunter2", ""),
            ("a=1&key=hunter2&b=2", "a=1&b=2"),
            ("k%65y=hunter2&a=1&key=%68unter2", "a=1"),
            ("a=1&key&key=", "a=1"),
            ("keys=1&xkey=2&a=key=3", "keys=1&xkey=2&a=key=3"),
        ] {
            let mut taken = TakenOut::default();
            taken.drop_parameter(sent.as_bytes(), "key");
            assert_eq!(taken.query_to_log(), Some(left.as_bytes()), "{sent}");
        }
    }

    #[test]
    fn every_cookie_of_the_name_is_taken_out_and_no_other() {
        for (sent, left) in [
            ("key=hunter2", ""),
            ("a=1; key=hunter2; b=2", "a=1; b=2"),
            ("key=\"hunter2\";a=1;; key = x", "a=1"),
            ("KEY=1; xkey=2", "KEY=1; xkey=2"),
        ] {
            let mut taken = TakenOut::default();
            taken.drop_cookie(sent.as_bytes(), "key");
            assert_eq!(taken.cookie, left.as_bytes(), "{sent}");
        }
    }
}
