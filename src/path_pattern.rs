//! [`PathPattern`] and [`PathMatch`]: paths with parameters.

use std::{fmt, ops::Index, str::FromStr, sync::Arc};

use percent_encoding::percent_decode_str;

use crate::{Tag, WsError};

/// A pattern of paths, such as `/rooms/{room}`.
///
/// `{name}` stands for one segment of a path, or the rest of one, and `{*name}`, at the end, for the rest of the path: at least one byte,
/// but for a segment between two slashes, which may be empty. `{{` and `}}` are braces. All other bytes stand for themselves.
///
/// ```
/// use rxplus::prelude::*;
///
/// let rooms = PathPattern::new("/rooms/{room}")?;
/// let server = RxWsServer::bind("ws://127.0.0.1:0", WsStr)?;
/// server.connections().subscribe(move |connection| match rooms.matches(connection.path()) {
///     Some(path) => connection.next(format!("welcome to {}", &path["room"])), // on /rooms/7 and on /rooms/the%20attic
///     None => connection.close(4404, "there are rooms here, and nothing else").unwrap_or(()),
/// });
/// # Ok::<(), WsError>(())
/// ```
///
/// To route messages by patterns, see [`route_by_pattern`](crate::ObservableExt::route_by_pattern).
#[derive(Clone)]
pub struct PathPattern(PatternSet);

/// A path that a pattern matches, and its parameters. Cheaply cloned.
///
/// A parameter is looked up by its name: `path["room"]`, which panics when the pattern has no such name, as a map does, or
/// [`get`](Self::get). Bytes of it that are no UTF-8 once they are decoded are U+FFFD, as in
/// [`query_pairs`](crate::Connection::query_pairs).
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct PathMatch(Arc<Matched>);

#[derive(PartialEq, Eq, Hash)]
struct Matched {
    path: Tag,
    /// Names and values, decoded, in the order of the path.
    params: Box<[(Box<str>, Box<str>)]>,
}

/// Patterns of which no two match a path equally well.
#[derive(Clone)]
pub(crate) struct PatternSet(Arc<matchit::Router<usize>>);

impl PathPattern {
    /// Reads a pattern.
    ///
    /// # Errors
    ///
    /// [`WsError::InvalidPattern`] when a parameter has no name or no end, a segment has two of them, or `{*name}` is not at the end.
    pub fn new(pattern: impl AsRef<str>) -> Result<Self, WsError> {
        PatternSet::new([pattern]).map(Self)
    }

    /// The parameters of a path, if it is one of the pattern's.
    #[must_use]
    pub fn matches(&self, path: impl Into<Tag>) -> Option<PathMatch> {
        self.0.find(&path.into()).map(|found| found.path)
    }
}

/// The pattern that matches a path best.
#[derive(Clone)]
pub(crate) struct Found {
    pub(crate) pattern: usize,
    pub(crate) path: PathMatch,
}

impl PatternSet {
    /// # Errors
    ///
    /// [`WsError::InvalidPattern`] for the first that is none, or that matches what another one matches as well.
    pub(crate) fn new<P: AsRef<str>>(patterns: impl IntoIterator<Item = P>) -> Result<Self, WsError> {
        let mut router = matchit::Router::new();
        for (number, pattern) in patterns.into_iter().enumerate() {
            let pattern = with_slash(pattern.as_ref());
            let invalid = |error: matchit::InsertError| reason(&error);
            router
                .insert(&pattern, number)
                .map_err(invalid)
                .map_err(|reason| WsError::InvalidPattern { pattern, reason })?;
        }
        Ok(Self(Arc::new(router)))
    }

    pub(crate) fn find(&self, path: &Tag) -> Option<Found> {
        let found = self.0.at(path).ok()?;
        let decode = |(name, value): (&str, &str)| (name.into(), percent_decode_str(value).decode_utf8_lossy().into());
        let params = found.params.iter().map(decode).collect();
        Some(Found { pattern: *found.value, path: PathMatch(Arc::new(Matched { path: path.clone(), params })) })
    }
}

/// As addresses and `paths` have it: a path begins with a slash.
fn with_slash(pattern: &str) -> String {
    if pattern.starts_with('/') { pattern.into() } else { format!("/{pattern}") }
}

fn reason(error: &matchit::InsertError) -> String {
    match error {
        matchit::InsertError::Conflict { with } => format!("it matches the same paths as \"{with}\""),
        other => other.to_string().to_lowercase().trim_end_matches('.').into(),
    }
}

impl PathMatch {
    /// The path as it was requested, not decoded: the tag of a server's items, to push into it.
    #[must_use]
    pub fn path(&self) -> &Tag {
        &self.0.path
    }

    /// The parameter with this name, percent-decoded.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(of, _)| *of == name).map(|(_, value)| value)
    }

    /// All parameters with their names, in the order of the path.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.params.iter().map(|(name, value)| (&**name, &**value))
    }
}

impl Index<&str> for PathMatch {
    type Output = str;

    fn index(&self, name: &str) -> &str {
        self.get(name).unwrap_or_else(|| panic!("the pattern of {:?} has no parameter \"{name}\"", self.path()))
    }
}

impl FromStr for PathPattern {
    type Err = WsError;

    fn from_str(pattern: &str) -> Result<Self, WsError> {
        Self::new(pattern)
    }
}

impl fmt::Debug for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PathPattern").finish_non_exhaustive()
    }
}

impl fmt::Debug for PathMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let params = self.iter().collect::<Vec<_>>();
        f.debug_struct("PathMatch").field("path", self.path()).field("params", &params).finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn params(pattern: &str, path: &str) -> Option<Vec<(String, String)>> {
        let found = PathPattern::new(pattern).unwrap().matches(path)?;
        Some(found.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    fn one(pattern: &str, path: &str) -> Option<String> {
        params(pattern, path).map(|params| params.into_iter().map(|(_, value)| value).collect::<Vec<_>>().join("|"))
    }

    #[test]
    fn parameters_are_segments_decoded() {
        assert_eq!(one("/rooms/{room}", "/rooms/7").as_deref(), Some("7"));
        assert_eq!(one("rooms/{room}", "/rooms/the%20attic%2Fleft").as_deref(), Some("the attic/left"));
        assert_eq!(one("/users/{user}/{box}", "/users/ada/in").as_deref(), Some("ada|in"));
        assert_eq!(one("/files/{*path}", "/files/a/b%C3%A9").as_deref(), Some("a/bé"));
        assert_eq!(one("/user-{id}", "/user-7").as_deref(), Some("7"));
        assert_eq!(one("/{user}/{box}", "//in").as_deref(), Some("|in"));
        assert_eq!(one("/{{x}}", "/{x}").as_deref(), Some(""));
        assert_eq!(one("/rooms/{room}", "/rooms/a%ff").as_deref(), Some("a\u{fffd}"));
        for other in ["/rooms", "/rooms/", "/rooms/7/", "/rooms/7/x", "/room/7", ""] {
            assert_eq!(one("/rooms/{room}", other), None, "{other}");
        }
    }

    #[test]
    fn parameter_is_found_by_its_name() {
        let path = PathPattern::new("/users/{user}/{box}").unwrap().matches("/users/ada/in").unwrap();
        assert_eq!((&path["user"], &path["box"], path.get("x")), ("ada", "in", None));
        assert_eq!(path.path(), "/users/ada/in");
    }

    #[test]
    fn pattern_that_is_none_or_that_another_one_forestalls_is_an_error_that_says_so() {
        for bad in ["/{", "/{}", "/{a", "/{a}{b}", "/{*rest}/x", "/}"] {
            let error = PathPattern::new(bad).unwrap_err().to_string();
            assert!(error.starts_with(&format!("cannot use \"{bad}\" as a pattern of paths: ")), "{error}");
        }
        let both = PatternSet::new(["/rooms/{room}", "/rooms/{name}"]).err().unwrap().to_string();
        assert!(both.contains("it matches the same paths as \"/rooms/{room}\""), "{both}");
        assert!(PatternSet::new(["/rooms/{room}", "/rooms/lobby", "/{*rest}"]).is_ok());
    }

    #[test]
    fn what_is_written_out_is_found_before_a_parameter_and_that_before_the_rest() {
        let set = PatternSet::new(["/{*rest}", "/rooms/{room}", "/rooms/lobby"]).unwrap();
        let found = |path: &str| set.find(&path.into()).map(|found| found.pattern);
        assert_eq!(["/rooms/lobby", "/rooms/7", "/rooms/7/x", "/"].map(found), [Some(2), Some(1), Some(0), None]);
    }

    proptest! {
        #[test]
        fn any_pattern_is_one_or_an_error_and_any_path_is_matched_or_not(pattern in ".{0,12}|(/|\\{|\\}|\\*|[ab%]){0,12}", path in ".{0,12}") {
            if let Ok(pattern) = PathPattern::new(&pattern) {
                let _ = pattern.matches(path);
            }
        }
    }
}
