//! Where a key stands in a file.

use toml::de::{DeTable, DeValue};

/// A step on the way to a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathStep {
    /// A key of a table.
    Key(String),
    /// An index of an array.
    Index(usize),
}

impl From<&str> for PathStep {
    fn from(key: &str) -> Self {
        Self::Key(key.to_owned())
    }
}

impl From<usize> for PathStep {
    fn from(index: usize) -> Self {
        Self::Index(index)
    }
}

/// Finds lines in one text.
#[derive(Clone, Copy, Debug)]
pub struct LineIndex<'a> {
    text: &'a str,
}

impl<'a> LineIndex<'a> {
    /// Of `text`.
    pub fn new(text: &'a str) -> Self {
        Self { text }
    }

    /// The line of the value at `path`, or of the table that would hold it; counted from 1. Reads the text anew: this
    /// is only done for a file that is wrong.
    pub fn line_of_nearest(&self, path: &[PathStep]) -> Option<usize> {
        (1..=path.len()).rev().find_map(|length| self.line_of(path.get(..length)?))
    }

    /// The line of the value at `path`.
    pub fn line_of(&self, path: &[PathStep]) -> Option<usize> {
        let document = DeTable::parse(self.text).ok()?;
        let (first, rest) = path.split_first()?;
        let PathStep::Key(first) = first else { return None };
        let mut value = document.get_ref().get(first.as_str())?;
        for step in rest {
            value = match (step, value.get_ref()) {
                (PathStep::Key(key), DeValue::Table(table)) => table.get(key.as_str())?,
                (PathStep::Index(index), DeValue::Array(array)) => array.get(*index)?,
                _ => return None,
            };
        }
        let before = self.text.get(..value.span().start)?;
        Some(before.matches('\n').count() + 1)
    }
}

/// `a.b[2].c`.
pub fn path_text(path: &[PathStep]) -> String {
    path.iter().fold(String::new(), |text, step| match step {
        PathStep::Key(key) if text.is_empty() => key.clone(),
        PathStep::Key(key) => format!("{text}.{key}"),
        PathStep::Index(index) => format!("{text}[{index}]"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_tables_and_array_elements_are_found() {
        let text = "a = 1\n[s]\n# c\nk = 2\n[[n]]\nid = 1\n[[n]]\nid = 2\n";
        let index = LineIndex::new(text);
        assert_eq!(index.line_of(&["a".into()]), Some(1));
        assert_eq!(index.line_of(&["s".into(), "k".into()]), Some(4));
        let path = ["n".into(), 1.into(), "id".into()];
        assert_eq!(index.line_of(&path), Some(8));
        assert_eq!(path_text(&path), "n[1].id");
        assert_eq!(index.line_of(&["n".into(), 2.into()]), None);
        assert_eq!(index.line_of_nearest(&["s".into(), "missing".into()]), Some(2));
    }
}
