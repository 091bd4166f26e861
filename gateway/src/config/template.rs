//! Texts with variables of the request: `"https://${host}${path}"`.

use super::matching::PathPattern;

/// Most pieces of a template.
const PIECES_MAX: usize = 64;

/// A text with variables of the request, read once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    /// What it is made of, in order; no two texts stand side by side.
    pub pieces: Vec<Piece>,
}

/// A piece of a [`Template`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// As written.
    Text(String),
    /// What the request has.
    Variable(Variable),
}

/// What a template can take from a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Variable {
    /// `http` or `https`.
    Scheme,
    /// The method.
    Method,
    /// The host, in lower case and without port.
    Host,
    /// The path in the form that is routed, before it is rewritten.
    Path,
    /// The query without `?`; empty without one.
    Query,
    /// The client's address.
    ClientAddress,
    /// The request's identifier.
    RequestId,
    /// The name of the route.
    Route,
    /// The name of the consumer that calls; empty where nobody knows.
    ConsumerName,
    /// The consumer's plan; empty without one.
    ConsumerPlan,
    /// What the path captured under this name.
    Capture {
        /// The name.
        name: String,
        /// Its number among the captures of the route's path.
        number: usize,
    },
}

/// The variables without a name of the user's.
const NAMES: [(&str, Variable); 10] = [
    ("scheme", Variable::Scheme),
    ("method", Variable::Method),
    ("host", Variable::Host),
    ("path", Variable::Path),
    ("query", Variable::Query),
    ("client.address", Variable::ClientAddress),
    ("request.id", Variable::RequestId),
    ("route", Variable::Route),
    ("consumer.name", Variable::ConsumerName),
    ("consumer.plan", Variable::ConsumerPlan),
];
/// What is before the name of a capture.
const CAPTURE: &str = "path.";

/// Whether `${name}` stands for something of the request and not of the environment.
pub(super) fn is_of_request(name: &str) -> bool {
    name.contains('.') || NAMES.iter().any(|(known, _)| *known == name)
}

impl Template {
    /// Reads a text in which the variables of the environment are replaced and `$$` still stands for a dollar.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut pieces: Vec<Piece> = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            literal.push_str(before);
            if let Some(after) = after.strip_prefix('$') {
                literal.push('$');
                rest = after;
                continue;
            }
            let inside = after
                .strip_prefix('{')
                .and_then(|rest| rest.split_once('}'));
            let Some((name, after)) = inside else {
                return Err(
                    "a single `$`: write `${NAME}` for a variable or `$$` for a dollar".into(),
                );
            };
            if !literal.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut literal)));
            }
            pieces.push(Piece::Variable(of_request(name)?));
            rest = after;
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            pieces.push(Piece::Text(literal));
        }
        if pieces.len() > PIECES_MAX {
            return Err(format!("at most {PIECES_MAX} texts and variables"));
        }
        Ok(Self { pieces })
    }

    /// Finds the captures among those of `path`.
    pub(super) fn bind(&mut self, path: &PathPattern) -> Result<(), String> {
        let captures = path.captures();
        for piece in &mut self.pieces {
            let Piece::Variable(Variable::Capture { name, number }) = piece else {
                continue;
            };
            *number = captures
                .iter()
                .position(|capture| capture == name)
                .ok_or_else(|| {
                    let known = match &captures[..] {
                        [] => "the route's path captures nothing".to_owned(),
                        captures => format!("it captures {}", captures.join(", ")),
                    };
                    format!("`${{{CAPTURE}{name}}}`: the route's path has no such capture; {known}")
                })?;
        }
        Ok(())
    }

    /// The text with every variable replaced by `value`, to be checked as an example.
    pub(super) fn example(&self, value: impl Fn(&Variable) -> String) -> String {
        let put = |piece: &Piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Variable(variable) => value(variable),
        };
        self.pieces.iter().map(put).collect()
    }

    /// As it is written.
    pub(super) fn show(&self) -> String {
        let name = |variable: &Variable| match variable {
            Variable::Capture { name, .. } => format!("${{{CAPTURE}{name}}}"),
            other => {
                let found = NAMES.iter().find(|(_, known)| known == other);
                format!("${{{}}}", found.map_or("", |(name, _)| name))
            }
        };
        let put = |piece: &Piece| match piece {
            Piece::Text(text) => text.replace('$', "$$"),
            Piece::Variable(variable) => name(variable),
        };
        self.pieces.iter().map(put).collect()
    }
}

/// The variable of a request with this name.
pub(super) fn of_request(name: &str) -> Result<Variable, String> {
    if let Some((_, known)) = NAMES.iter().find(|(known, _)| *known == name) {
        return Ok(known.clone());
    }
    match name.strip_prefix(CAPTURE) {
        Some(capture) => Ok(Variable::Capture {
            name: capture.to_owned(),
            number: 0,
        }),
        None => {
            let names: Vec<&str> = NAMES.iter().map(|&(name, _)| name).collect();
            let near = super::nearest::did_you_mean(name, names.iter().copied());
            let names = names.join(", ");
            Err(format!(
                "`${{{name}}}` is no variable of a request; there are {names} and {CAPTURE}NAME{near}"
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_texts_and_variables_and_shows_them_as_written() {
        let text = "https://${host}${path}/a$$b?${path.id}";
        let template = Template::parse(text).unwrap();
        assert_eq!(template.show(), text);
        assert_eq!(template.pieces.len(), 5);
        assert_eq!(template.example(|_| "x".into()), "https://xx/a$b?x");
    }

    #[test]
    fn refuses_what_is_no_variable() {
        for text in ["$", "a$b", "${host", "${nothing.here}", "${hosst}"] {
            assert!(Template::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn captures_are_those_of_the_path() {
        let path = super::super::address::parse_path("/a/{x}/{y}").unwrap();
        let mut template = Template::parse("${path.y}").unwrap();
        template.bind(&path).unwrap();
        let number = |piece: &Piece| match piece {
            Piece::Variable(Variable::Capture { number, .. }) => *number,
            _ => usize::MAX,
        };
        assert_eq!(number(&template.pieces[0]), 1);
        let message = Template::parse("${path.z}").unwrap().bind(&path);
        assert!(message.unwrap_err().contains("it captures x, y"));
    }
}
