//! Whether both ends speak the resumable mode: by a subprotocol, the one thing that a browser can offer.
//!
//! A server chooses one subprotocol (RFC 6455, section 1.9), so an application's own subprotocol P and the mode share a name:
//! `P+rxplus.resume.1`.

/// The subprotocol of the resumable mode.
pub(crate) const RESUME: &str = "rxplus.resume.1";

/// Means nothing. For peers that fail a handshake in which none of the offered subprotocols is chosen, as browsers do.
pub(crate) const PLAIN: &str = "rxplus.plain";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Plain,
    Resumable,
}

/// Whether a name is one of the mode's, which an application cannot have.
pub(crate) fn is_reserved(name: &str) -> bool {
    split(name) != (Some(name), Mode::Plain)
}

/// What a resumable client offers, whose application has these subprotocols.
pub(crate) fn offers(application: &[String]) -> Vec<String> {
    if application.is_empty() {
        return vec![RESUME.to_owned(), PLAIN.to_owned()];
    }
    application.iter().flat_map(|name| [resumable_name(name), name.clone()]).collect()
}

/// Chooses from what a client offers. `application` is in the server's order of preference; a subprotocol of the application
/// comes first, and with the mode before it comes without.
pub(crate) fn choose<'a>(
    offered: impl Iterator<Item = &'a str>,
    application: &[String],
    is_resumable: bool,
) -> Option<String> {
    let offered: Vec<_> = offered.collect();
    let find = |name: &str| offered.iter().copied().find(|offer| *offer == name);
    let of_application = |name: &String| find(&resumable_name(name)).filter(|_| is_resumable).or_else(|| find(name));
    let name = application.iter().find_map(of_application);
    let name = name.or_else(|| find(RESUME).filter(|_| is_resumable)).or_else(|| find(PLAIN));
    name.map(str::to_owned)
}

/// The application's part of a chosen subprotocol, and the mode.
pub(crate) fn split(chosen: &str) -> (Option<&str>, Mode) {
    match chosen {
        RESUME => (None, Mode::Resumable),
        PLAIN => (None, Mode::Plain),
        _ => match chosen.strip_suffix(RESUME).and_then(|rest| rest.strip_suffix('+')) {
            Some(name) => (Some(name), Mode::Resumable),
            None => (Some(chosen), Mode::Plain),
        },
    }
}

fn resumable_name(application: &str) -> String {
    format!("{application}+{RESUME}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: [&str; 2] = [RESUME, PLAIN];

    fn list(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    /// What a server answers that has these subprotocols, what its application sees, and in which mode.
    fn chosen(offered: &[&str], application: &[&str], is_resumable: bool) -> (Option<String>, Option<String>, Mode) {
        let name = choose(offered.iter().copied(), &list(application), is_resumable);
        let (application, mode) = name.as_deref().map_or((None, Mode::Plain), split);
        (name.clone(), application.map(str::to_owned), mode)
    }

    fn some(name: &str) -> Option<String> {
        Some(name.to_owned())
    }

    #[test]
    fn client_offers_each_subprotocol_with_the_mode_and_without() {
        assert_eq!(offers(&[]), BOTH);
        assert_eq!(offers(&list(&["a", "b"])), ["a+rxplus.resume.1", "a", "b+rxplus.resume.1", "b"]);
    }

    #[test]
    fn resumable_server_chooses_the_mode() {
        assert_eq!(chosen(&BOTH, &[], true), (some(RESUME), None, Mode::Resumable));
        assert_eq!(chosen(&[PLAIN, RESUME], &["a"], true), (some(RESUME), None, Mode::Resumable));
        let offered = ["a", "a+rxplus.resume.1"];
        assert_eq!(chosen(&offered, &["a"], true), (some("a+rxplus.resume.1"), some("a"), Mode::Resumable));
    }

    #[test]
    fn server_prefers_in_its_own_order() {
        let offered = ["a+rxplus.resume.1", "a", "b+rxplus.resume.1", "b", RESUME];
        assert_eq!(chosen(&offered, &["b", "a"], true), (some("b+rxplus.resume.1"), some("b"), Mode::Resumable));
        assert_eq!(chosen(&offered, &["b", "a"], false), (some("b"), some("b"), Mode::Plain));
        assert_eq!(chosen(&["b", RESUME], &["a", "b"], true), (some("b"), some("b"), Mode::Plain));
    }

    #[test]
    fn server_chooses_the_plain_name_only_if_it_chooses_nothing_else() {
        assert_eq!(chosen(&BOTH, &[], false), (some(PLAIN), None, Mode::Plain));
        assert_eq!(chosen(&[PLAIN, "a"], &["a"], false), (some("a"), some("a"), Mode::Plain));
        assert_eq!(chosen(&[PLAIN], &["a"], true), (some(PLAIN), None, Mode::Plain));
    }

    #[test]
    fn server_that_knows_no_offer_chooses_nothing() {
        for is_resumable in [false, true] {
            assert_eq!(chosen(&[], &["a"], is_resumable), (None, None, Mode::Plain));
            let offered = ["b+rxplus.resume.1", "b", "RXPLUS.RESUME.1", "+rxplus.resume.1"];
            assert_eq!(chosen(&offered, &["a"], is_resumable), (None, None, Mode::Plain));
        }
    }

    #[test]
    fn client_understands_what_was_chosen_of_its_offers() {
        for application in [vec![], list(&["a", "b"])] {
            for offer in offers(&application) {
                let name = choose([offer.as_str()].into_iter(), &application, true);
                let (application, mode) = name.as_deref().map_or((None, Mode::Plain), split);
                assert_eq!(name.as_deref(), Some(&*offer));
                assert_eq!(split(&offer), (application, mode));
            }
        }
    }

    #[test]
    fn foreign_subprotocol_is_the_applications() {
        assert_eq!(split("mqtt"), (Some("mqtt"), Mode::Plain));
        assert_eq!(split("mqtt+rxplus.resume.2"), (Some("mqtt+rxplus.resume.2"), Mode::Plain));
        assert_eq!(split("xrxplus.resume.1"), (Some("xrxplus.resume.1"), Mode::Plain));
    }
}
