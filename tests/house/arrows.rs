use std::collections::{BTreeMap, BTreeSet};

use super::{Source, sources};

/// For each top-level module those that it takes names from.
type Arrows = BTreeMap<String, BTreeSet<String>>;

/// What it names is what failed, so it may know those who know it.
const ERROR: &str = "error";

#[test]
fn no_top_level_modules_go_in_a_circle() {
    let sources = sources();
    let lib = sources.iter().find(|source| source.path == "src/lib.rs").unwrap();
    let (modules, homes) = (modules_of(&lib.text), homes_of(&lib.text));
    let mut arrows = Arrows::new();
    for source in sources.iter().filter(|source| !source.is_test() && modules.contains(source.room())) {
        let to = named_in(source).into_iter().map(|name| homes.get(&name).cloned().unwrap_or(name));
        let to = to.filter(|to| modules.contains(to) && to != source.room());
        arrows.entry(source.room().to_owned()).or_default().extend(to);
    }
    assert!(arrows["server"].contains("endpoint"), "the arrows are not found: {arrows:?}");
    arrows.remove(ERROR);
    assert_eq!(in_circles(arrows), [""; 0]);
}

#[test]
fn circle_is_found() {
    let arrow = |from: &str, to: &[&str]| (from.to_owned(), to.iter().map(|&to| to.to_owned()).collect());
    let arrows = [arrow("a", &["b"]), arrow("b", &["c"]), arrow("c", &["b"]), arrow("d", &["a"])];
    assert_eq!(in_circles(arrows.into()), ["b", "c"]);
}

#[test]
fn names_are_found_in_nested_imports() {
    let text = "use crate::{\n    Frame, a::{B, c::D},\n    e,\n};\nfn f() { crate::g::h() } // crate::i\n";
    let named = named_in(&Source { path: "src/x.rs".into(), text: text.into() });
    assert_eq!(named.into_iter().collect::<Vec<_>>(), ["Frame", "a", "e", "g"]);
}

/// The modules that are left when those without arrows to others of them are taken away, in turn from both ends.
fn in_circles(mut arrows: Arrows) -> Vec<String> {
    loop {
        let sources: BTreeSet<_> = arrows.keys().cloned().collect();
        let targets: BTreeSet<_> = arrows.values().flatten().cloned().collect();
        let before = arrows.len();
        arrows.retain(|from, to| {
            to.retain(|to| sources.contains(to));
            !to.is_empty() && targets.contains(from)
        });
        if arrows.len() == before {
            return arrows.into_keys().collect();
        }
    }
}

fn modules_of(lib: &str) -> BTreeSet<String> {
    let declared = lib.lines().filter_map(|line| line.trim_start_matches("pub ").strip_prefix("mod "));
    declared.filter_map(|rest| rest.strip_suffix(';')).map(str::to_owned).collect()
}

/// Where the names come from that `lib.rs` exports.
fn homes_of(lib: &str) -> BTreeMap<String, String> {
    let mut homes = BTreeMap::new();
    for export in lib.split("\npub use ").skip(1) {
        let export = export.split(';').next().unwrap_or_default();
        let Some((module, names)) = export.split_once("::") else { continue };
        for name in identifiers(names) {
            homes.insert(name, module.to_owned());
        }
    }
    homes
}

/// What comes first behind `crate::` in a source, in its imports and elsewhere.
fn named_in(source: &Source) -> BTreeSet<String> {
    let code: Vec<_> = source.code().lines().map(|line| line.split("//").next().unwrap_or_default()).collect();
    let code = code.join("\n");
    let mut names = BTreeSet::new();
    for rest in code.split("crate::").skip(1) {
        match rest.strip_prefix('{') {
            Some(list) => names.extend(firsts_of(list)),
            None => names.extend(identifiers(rest).next()),
        }
    }
    names
}

/// The first name of each entry of a list of imports, up to its closing brace.
fn firsts_of(list: &str) -> Vec<String> {
    let (mut depth, mut entries) = (0, vec![String::new()]);
    for char in list.chars() {
        match char {
            '}' if depth == 0 => break,
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => entries.push(String::new()),
            _ if depth == 0 => entries.last_mut().unwrap().push(char),
            _ => {}
        }
    }
    entries.iter().filter_map(|entry| identifiers(entry).next()).collect()
}

fn identifiers(text: &str) -> impl Iterator<Item = String> {
    text.split(|char: char| !char.is_alphanumeric() && char != '_').filter(|word| !word.is_empty()).map(str::to_owned)
}
