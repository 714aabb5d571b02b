//! The house keeps its shape: sizes of files, functions and folders, and no circles between the top-level modules.
//!
//! Reads the sources as text. The figures are those that `CONTRIBUTING.md` gives.

mod arrows;
mod sizes;

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A Rust source below the root of the package.
struct Source {
    /// Relative to the root, with `/` on every system.
    path: String,
    text: String,
}

impl Source {
    /// The lines before the unit tests at the foot.
    fn code(&self) -> &str {
        self.text.split("\n#[cfg(test)]\nmod tests").next().unwrap_or_default()
    }

    fn is_test(&self) -> bool {
        !self.path.starts_with("src/") || self.path.contains("/tests") || self.path.ends_with("_tests.rs")
    }

    /// The folder or the file of `src` that it belongs to.
    fn room(&self) -> &str {
        let below = self.path.strip_prefix("src/").unwrap_or(&self.path);
        below.split('/').next().unwrap_or_default().trim_end_matches(".rs")
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The entries of a folder, without those that are hidden.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| !path.file_name().unwrap().to_string_lossy().starts_with('.')).collect()
}

/// All files below a folder, and all folders, itself among them.
fn walk(folder: &Path) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let (mut files, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    let mut next = 0;
    while let Some(folder) = folders.get(next).cloned() {
        let (inner, more): (Vec<_>, Vec<_>) = entries(&folder).into_iter().partition(|path| path.is_dir());
        folders.extend(inner);
        files.extend(more);
        next += 1;
    }
    (files, folders)
}

/// The Rust sources of `src`.
fn sources() -> Vec<Source> {
    let (files, _) = walk(&root().join("src"));
    let sources = files.into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    let read = |path: PathBuf| Source {
        path: path.strip_prefix(root()).unwrap().to_string_lossy().replace('\\', "/"),
        text: fs::read_to_string(&path).unwrap(),
    };
    sources.map(read).collect()
}
