//! stub
use crate::config::Config;
/// t
#[derive(Debug)]
pub struct RouteTable(Config);
impl RouteTable {
    /// n
    pub fn new(c: &Config) -> Self {
        Self(c.clone())
    }
    /// f
    pub fn find(&self, _h: &[u8], p: &[u8]) -> Option<usize> {
        self.0.routes.iter().position(|r| match &r.path {
            crate::config::PathPattern::Exact(x) => x.as_bytes() == p,
            crate::config::PathPattern::Prefix(x) => p.starts_with(x.as_bytes()),
        })
    }
}
