//! Names that a file has twice: what each is called in full, and where it stood first. The parser says only where it stands again.

use std::borrow::Cow;
use std::collections::BTreeMap;

use toml_parser::decoder::Encoding;
use toml_parser::parser::{EventReceiver, RecursionGuard, parse_document};
use toml_parser::{ErrorSink, Source, Span};

/// Deepest nesting that is looked into; the reader's parser refuses a deeper one.
const DEPTH_MAX: u32 = 80;

/// Every name of a file. Costs two texts for each; made only where a name is there twice.
pub(super) struct Names<'a> {
    source: Source<'a>,
    /// What is called what, by where the name stands.
    at: BTreeMap<usize, Path>,
    /// Where a name stood first as the last of its path, by [`Path::unique`].
    defined: BTreeMap<String, usize>,
    /// Where it stood first, wherever in a path.
    mentioned: BTreeMap<String, usize>,
    /// Tables in each array of tables so far.
    tables: BTreeMap<String, usize>,
    /// The table whose keys follow.
    table: Path,
    /// What encloses the place, innermost last.
    around: Vec<Around>,
    /// The names of the header or key under way.
    names: Vec<(String, usize)>,
    /// Of the value that follows.
    value: Path,
}

/// A path of names.
#[derive(Clone, Default)]
struct Path {
    /// With the place in each array: no two tables have one.
    unique: String,
    /// As messages show it.
    shown: String,
}

/// An inline table, or an array with the number of its next element.
enum Around {
    Table(Path),
    Array(Path, usize),
}

impl Path {
    /// The path of `name` below this one.
    fn join(&self, name: &str) -> Self {
        let dot = if self.shown.is_empty() { "" } else { "." };
        Self {
            // No name holds a line break as it is in a path: this keeps `a.b` and `"a.b"` apart.
            unique: format!("{}\n{name}", self.unique),
            shown: format!("{}{dot}{name}", self.shown),
        }
    }

    /// The path of an element.
    fn element(&self, number: usize) -> Self {
        Self {
            unique: format!("{}\n[{number}]", self.unique),
            shown: self.shown.clone(),
        }
    }
}

impl<'a> Names<'a> {
    /// Reads the names of a text, which need not be right otherwise.
    pub(super) fn of(text: &'a str) -> Self {
        let mut names = Self {
            source: Source::new(text),
            at: BTreeMap::new(),
            defined: BTreeMap::new(),
            mentioned: BTreeMap::new(),
            tables: BTreeMap::new(),
            table: Path::default(),
            around: Vec::new(),
            names: Vec::new(),
            value: Path::default(),
        };
        let tokens = names.source.lex().into_vec();
        let mut guarded = RecursionGuard::new(&mut names, DEPTH_MAX);
        parse_document(&tokens, &mut guarded, &mut ());
        names
    }

    /// What the name at this place is called in full, and where it stood before; of a name that is only now given to what was
    /// closed before, where that was.
    pub(super) fn find(&self, at: usize) -> Option<(&str, Option<usize>)> {
        let path = self.at.get(&at)?;
        let mut unique = path.unique.as_str();
        loop {
            let firsts = [self.defined.get(unique), self.mentioned.get(unique)];
            let first = firsts.into_iter().flatten().find(|first| **first < at);
            if let Some(first) = first {
                return Some((&path.shown, Some(*first)));
            }
            let Some((parent, _)) = unique.rsplit_once('\n') else {
                return Some((&path.shown, None));
            };
            unique = parent;
        }
    }

    /// The path of the names under way below `base`. `into_arrays`: a name of an array of tables stands for its last.
    fn resolve(&mut self, base: &Path, into_arrays: bool) -> Path {
        let names = std::mem::take(&mut self.names);
        let last = names.len().saturating_sub(1);
        let mut path = base.clone();
        for (index, (name, at)) in names.iter().enumerate() {
            path = path.join(name);
            self.mentioned.entry(path.unique.clone()).or_insert(*at);
            if index == last {
                self.defined.entry(path.unique.clone()).or_insert(*at);
            }
            self.at.insert(*at, path.clone());
            if index < last
                && into_arrays
                && let Some(count) = self.tables.get(&path.unique)
            {
                path = path.element(count.saturating_sub(1));
            }
        }
        path
    }

    /// What a key's path begins with here.
    fn base(&self) -> Path {
        match self.around.last() {
            Some(Around::Table(path) | Around::Array(path, _)) => path.clone(),
            None => self.table.clone(),
        }
    }

    /// The path of the value that begins here.
    fn begin_value(&self) -> Path {
        match self.around.last() {
            Some(Around::Array(path, number)) => path.element(*number),
            _ => self.value.clone(),
        }
    }
}

impl EventReceiver for Names<'_> {
    fn std_table_open(&mut self, _: Span, _: &mut dyn ErrorSink) {
        self.names.clear();
    }

    fn std_table_close(&mut self, _: Span, _: &mut dyn ErrorSink) {
        self.table = self.resolve(&Path::default(), true);
    }

    fn array_table_open(&mut self, _: Span, _: &mut dyn ErrorSink) {
        self.names.clear();
    }

    fn array_table_close(&mut self, _: Span, _: &mut dyn ErrorSink) {
        let path = self.resolve(&Path::default(), true);
        let count = self.tables.entry(path.unique.clone()).or_insert(0);
        *count += 1;
        self.table = path.element(*count - 1);
    }

    fn inline_table_open(&mut self, _: Span, _: &mut dyn ErrorSink) -> bool {
        let path = self.begin_value();
        self.around.push(Around::Table(path));
        true
    }

    fn inline_table_close(&mut self, _: Span, _: &mut dyn ErrorSink) {
        self.around.pop();
    }

    fn array_open(&mut self, _: Span, _: &mut dyn ErrorSink) -> bool {
        let path = self.begin_value();
        self.around.push(Around::Array(path, 0));
        true
    }

    fn array_close(&mut self, _: Span, _: &mut dyn ErrorSink) {
        self.around.pop();
    }

    fn simple_key(&mut self, span: Span, encoding: Option<Encoding>, error: &mut dyn ErrorSink) {
        let mut name = Cow::Borrowed("");
        if let Some(raw) = self.source.get(span) {
            let raw = toml_parser::Raw::new_unchecked(raw.as_str(), encoding, span);
            raw.decode_key(&mut name, error);
        }
        self.names.push((name.into_owned(), span.start()));
    }

    fn key_val_sep(&mut self, _: Span, _: &mut dyn ErrorSink) {
        let base = self.base();
        self.value = self.resolve(&base, false);
    }

    fn value_sep(&mut self, _: Span, _: &mut dyn ErrorSink) {
        if let Some(Around::Array(_, number)) = self.around.last_mut() {
            *number += 1;
        }
    }

    fn newline(&mut self, _: Span, _: &mut dyn ErrorSink) {
        // A key without a value.
        self.names.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::Names;
    use crate::config::Position;

    /// The full name of what stands at the last `needle`, and the line and column at which it stood first.
    fn found(text: &str, needle: &str) -> (String, Option<(usize, usize)>) {
        let names = Names::of(text);
        let (path, first) = names.find(text.rfind(needle).unwrap()).unwrap();
        let place = |at: usize| {
            let Position { line, column } = Position::of(text, at);
            (line, column)
        };
        (path.to_owned(), first.map(place))
    }

    #[test]
    fn a_name_is_known_by_its_path_wherever_it_is_written() {
        for (text, needle, path, first) in [
            ("a = 1\na = 2\n", "a", "a", (1, 1)),
            ("[x.y]\na = 1\n[z]\na = 3\n[x.y]\n", "y]", "x.y", (1, 4)),
            ("[x]\ny.a = 1\ny.a = 2", "a", "x.y.a", (2, 3)),
            ("[x]\n'a b' = 1\n\"a b\" = 2", "\"a b\"", "x.a b", (2, 1)),
            ("x = { a = 1, b = { c = 1, c = 2 } }", "c", "x.b.c", (1, 20)),
            ("x = [{ a = 1 }, { a = 1, a = 2 }]", "a", "x.a", (1, 19)),
            ("[[x]]\na = 1\n[[x]]\na = 1\na = 2", "a", "x.a", (4, 1)),
            ("[[x]]\n[x.y]\n[[x]]\n[x.y]\n[x.y]\n", "y", "x.y", (4, 4)),
            ("[x]\n[[x]]\n", "x", "x", (1, 2)),
            ("[[x]]\n[x]\n", "x", "x", (1, 3)),
            // Closed before it gets another name.
            ("[x.y]\na = 1\n[x]\ny.b = 2\n", "b", "x.y.b", (1, 4)),
            (
                "t = '''\n[no]\na = 1'''\n[x]\na = 1\na = 2",
                "a",
                "x.a",
                (5, 1),
            ),
        ] {
            let expected = (path.to_owned(), Some(first));
            assert_eq!(found(text, needle), expected, "{text}");
        }
    }

    #[test]
    fn a_text_that_is_no_toml_has_the_names_that_can_be_read() {
        assert_eq!(found("[x\na = \n= 3\na = 1\na = 2", "a").0, "a");
        let deep = format!("a = {}\na = 1", "[".repeat(100_000));
        drop(Names::of(&deep));
    }
}
