//! The kind of a text with variables of the request.

use super::kind::{Kind, Written};
use super::template::Template;

/// A [`Template`] that a function checks.
pub(super) struct TemplateText {
    /// What a value must be, as a noun phrase.
    pub expects: &'static str,
    /// What is wrong with one, if anything.
    pub check: fn(&Template) -> Result<(), String>,
}

impl Kind for TemplateText {
    type Value = Template;
    fn expects(&self) -> String {
        self.expects.into()
    }
    fn has_request_variables(&self) -> bool {
        true
    }
    fn read(&self, written: Written<'_>) -> Result<Template, String> {
        let Written::Text(text) = written else {
            return Err(written.mismatch(self.expects));
        };
        let template = Template::parse(text)?;
        let checked = (self.check)(&template);
        checked.map_err(|message| format!("`{text}`: {message}"))?;
        Ok(template)
    }
    fn show(&self, value: &Template) -> String {
        format!("\"{}\"", value.show())
    }
}
