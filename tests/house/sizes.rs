use std::collections::BTreeMap;

use super::{entries, root, sources, walk};

/// Lines of a file, without the unit tests at its foot.
const FILE: usize = 500;

/// Lines of a function, its signature among them.
const FUNCTION: usize = 40;

/// Entries of a folder.
const FOLDER: usize = 16;

/// A top-level folder has at most this part of the lines of `src`.
const SHARE: usize = 5;

#[test]
fn files_are_short() {
    let long = sources().into_iter().filter(|source| !source.is_test()).filter_map(|source| {
        let lines = source.code().lines().count();
        (lines > FILE).then(|| format!("{}: {lines} lines", source.path))
    });
    assert_eq!(long.collect::<Vec<_>>(), [""; 0]);
}

#[test]
fn functions_are_short() {
    let mut long = Vec::new();
    for source in sources() {
        let lines: Vec<_> = source.text.lines().collect();
        for (begin, line) in lines.iter().enumerate() {
            let Some(indent) = indent_of_function(line) else { continue };
            // As rustfmt has it, a function ends with a brace below its `fn`; one on a single line does not have one.
            let end = format!("{}}}", " ".repeat(indent));
            let ends_here = |line: &str| line == end || (line.len() > indent && indent_of(line) < indent);
            let len = lines[begin..].iter().position(|line| ends_here(line)).unwrap_or(0) + 1;
            let is_one_line = line.ends_with('}') || line.ends_with(';');
            if !is_one_line && len > FUNCTION {
                long.push(format!("{}:{}: {len} lines", source.path, begin + 1));
            }
        }
    }
    assert_eq!(long, [""; 0]);
}

#[test]
fn folders_are_small() {
    let mut full = Vec::new();
    for top in ["src", "tests", "benches"] {
        let (_, folders) = walk(&root().join(top));
        for folder in folders.into_iter().skip(1) {
            let count = entries(&folder).len();
            if count > FOLDER {
                full.push(format!("{}: {count} entries", folder.display()));
            }
        }
    }
    assert_eq!(full, [""; 0]);
}

#[test]
fn no_room_is_most_of_the_house() {
    let mut rooms = BTreeMap::<String, usize>::new();
    for source in sources() {
        *rooms.entry(source.room().to_owned()).or_default() += source.text.lines().count();
    }
    let all: usize = rooms.values().sum();
    let large: Vec<_> = rooms.into_iter().filter(|(_, lines)| lines * SHARE > all).collect();
    assert!(large.is_empty(), "of {all} lines: {large:?}");
}

fn indent_of(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

/// Where a line begins a function.
fn indent_of_function(line: &str) -> Option<usize> {
    let mut words = line.split_whitespace().peekable();
    let is_modifier = |word: &&str| word.starts_with("pub") || ["const", "async", "unsafe"].contains(word);
    while words.next_if(|word| is_modifier(word) || word.ends_with(')')).is_some() {}
    (words.next() == Some("fn")).then(|| indent_of(line))
}
