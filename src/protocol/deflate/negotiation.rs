//! What both sides agree on in the opening handshake (RFC 7692, sections 5 and 7.1): header values in, an answer or a mistake
//! out.

use super::{
    LARGEST_WINDOW,
    extensions::{Extension, parse},
    options::Deflate,
};

const NAME: &str = "permessage-deflate";

/// The smallest window, of 256 bytes, as a power of two (RFC 7692, section 7.1.2).
const SMALLEST_WINDOW: u8 = 8;

/// What a client offers. It may be asked for a smaller window, and promises not to refer to earlier messages. Whether the
/// server refers to its own is left to the server: a client can afford to remember those of its one connection.
const OFFER: &str = "permessage-deflate; client_no_context_takeover; client_max_window_bits";

/// The same of a client that remembers nothing.
const OFFER_WITHOUT_TAKEOVER: &str =
    "permessage-deflate; server_no_context_takeover; client_no_context_takeover; client_max_window_bits";

/// What both sides have agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Agreed {
    pub(super) level: u8,
    /// The window that this side may compress with, as a power of two.
    pub(super) window: u8,
    /// The peer's messages may refer to its earlier ones.
    pub(super) peer_takes_over: bool,
    pub(super) min_len: u32,
}

const _: () = assert!(size_of::<Option<Agreed>>() == 8);

/// A server's answer to an offer.
#[derive(Debug, PartialEq)]
pub(crate) struct Answered {
    pub(crate) agreed: Agreed,
    /// The value of the header.
    pub(crate) value: String,
}

impl Deflate {
    /// A server's answer to the first offer that it can accept (RFC 7692, section 5.1), if there is one.
    ///
    /// A header that breaks the grammar stands for no offer: a server that does not compress does not even look at it.
    pub(crate) fn answer<'a>(&self, offers: impl Iterator<Item = &'a str>) -> Option<Answered> {
        let ours = offers.filter_map(parse).flatten().filter(|extension| extension.name == NAME);
        let offer = ours.into_iter().find_map(|extension| Params::of_offer(&extension))?;
        let mut value = format!("{NAME}; server_no_context_takeover; client_no_context_takeover");
        if let Some(window) = offer.server_window {
            value.push_str(&format!("; server_max_window_bits={window}"));
        }
        Some(Answered { agreed: self.agreed(offer.server_window.unwrap_or(LARGEST_WINDOW), false), value })
    }

    /// What a client offers.
    pub(crate) fn offer(self) -> Offer {
        Offer { deflate: self, refuses_takeover: false }
    }
}

/// A client's offer.
#[derive(Clone, Debug)]
pub(crate) struct Offer {
    deflate: Deflate,
    refuses_takeover: bool,
}

impl Offer {
    /// The same, for a connection whose messages are not all read by one decoder.
    pub(crate) fn refuse_takeover(&mut self) {
        self.refuses_takeover = true;
    }

    /// The value of the header, for a connection to this path.
    pub(crate) fn value(&self, path: &str) -> Option<&'static str> {
        let value = if self.refuses_takeover { OFFER_WITHOUT_TAKEOVER } else { OFFER };
        self.deflate.covers(path).then_some(value)
    }

    /// What the server has made of the offer; `None` if it declined.
    ///
    /// # Errors
    ///
    /// The server's mistake.
    pub(crate) fn confirm<'a>(&self, answers: impl Iterator<Item = &'a str>) -> Result<Option<Agreed>, &'static str> {
        let mut answered = Vec::new();
        for value in answers {
            answered.extend(parse(value).ok_or("the answer's list of extensions is malformed")?);
        }
        let Some((answer, more)) = answered.split_first() else { return Ok(None) };
        if answer.name != NAME || !more.is_empty() {
            return Err("the answer uses an extension that was not offered");
        }
        let takes_over = |params: &Params| self.refuses_takeover && !params.server_no_takeover;
        let params = Params::of_answer(answer).filter(|params| !takes_over(params));
        let params = params.ok_or("the answer's parameters of permessage-deflate are invalid")?;
        let window = params.client_window.flatten().unwrap_or(LARGEST_WINDOW);
        Ok(Some(self.deflate.agreed(window, !params.server_no_takeover)))
    }
}

/// The parameters of permessage-deflate (RFC 7692, section 7.1).
#[derive(Default)]
struct Params {
    server_no_takeover: bool,
    client_no_takeover: bool,
    server_window: Option<u8>,
    /// It is there, and perhaps has a value.
    client_window: Option<Option<u8>>,
}

impl Params {
    /// The parameters of an offer; `None` if one of them is unknown, invalid or repeated (RFC 7692, section 7.1).
    fn of_offer(extension: &Extension<'_>) -> Option<Self> {
        let mut params = Self::default();
        extension.params.iter().all(|(name, value)| params.add(name, value.as_deref())).then_some(params)
    }

    /// As [`of_offer`](Self::of_offer). In an answer, each window has a value.
    fn of_answer(extension: &Extension<'_>) -> Option<Self> {
        Self::of_offer(extension).filter(|params| params.client_window != Some(None))
    }

    /// Notes a parameter. Returns whether it is valid, and new.
    fn add(&mut self, name: &str, value: Option<&str>) -> bool {
        match (name, value) {
            ("server_no_context_takeover", None) => !std::mem::replace(&mut self.server_no_takeover, true),
            ("client_no_context_takeover", None) => !std::mem::replace(&mut self.client_no_takeover, true),
            ("server_max_window_bits", Some(value)) => {
                window(value).is_some_and(|window| self.server_window.replace(window).is_none())
            }
            ("client_max_window_bits", None) => self.client_window.replace(None).is_none(),
            ("client_max_window_bits", Some(value)) => {
                window(value).is_some_and(|window| self.client_window.replace(Some(window)).is_none())
            }
            _ => false,
        }
    }
}

/// A number from 8 to 15, without leading zeros (RFC 7692, section 7.1.2.1).
fn window(value: &str) -> Option<u8> {
    let bits = value.parse().ok().filter(|bits| (SMALLEST_WINDOW..=LARGEST_WINDOW).contains(bits))?;
    (bits.to_string() == value).then_some(bits)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn answer(offers: &[&str]) -> Option<Answered> {
        Deflate::new().answer(offers.iter().copied())
    }

    fn confirm(answers: &[&str]) -> Result<Option<Agreed>, &'static str> {
        Deflate::new().offer().confirm(answers.iter().copied())
    }

    const USUAL: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

    #[test]
    fn offer_that_can_be_accepted_is() {
        for offers in [
            &["permessage-deflate"][..],
            &[OFFER],
            &["permessage-deflate; client_max_window_bits=10 ; server_no_context_takeover"],
            &["x-other; y=\"1\", permessage-deflate"],
            &["x-other", "permessage-deflate"],
            &["not a list", "permessage-deflate"],
        ] {
            let Answered { agreed, value } = answer(offers).unwrap();
            assert_eq!((agreed, &*value), (Deflate::new().usual(), USUAL), "{offers:?}");
        }
    }

    #[test]
    fn first_offer_that_can_be_accepted_counts() {
        let first_is_unknown = "permessage-deflate; unknown, permessage-deflate; server_max_window_bits=9";
        let second = "permessage-deflate; server_max_window_bits=10";
        let Answered { agreed, value } = answer(&[first_is_unknown, second]).unwrap();
        assert_eq!((agreed.window, value), (9, format!("{USUAL}; server_max_window_bits=9")));
        assert_eq!(answer(&[second, first_is_unknown]).unwrap().agreed.window, 10);
    }

    #[test]
    fn window_is_as_small_as_the_client_wants() {
        for (value, expected) in [("8", 8), ("\"9\"", 9), ("1\u{30}", 10), ("15", 15)] {
            let Answered { agreed, value } = answer(&[&format!("{NAME};server_max_window_bits={value}")]).unwrap();
            assert_eq!((agreed.window, value), (expected, format!("{USUAL}; server_max_window_bits={expected}")));
        }
    }

    #[test]
    fn invalid_offer_is_declined() {
        for offer in [
            "permessage-deflate; unknown",
            "permessage-deflate; server_max_window_bits",
            "permessage-deflate; server_max_window_bits=7",
            "permessage-deflate; server_max_window_bits=16",
            "permessage-deflate; server_max_window_bits=09",
            "permessage-deflate; server_max_window_bits=+9",
            "permessage-deflate; server_max_window_bits=264",
            "permessage-deflate; server_no_context_takeover=1",
            "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
            "permessage-deflate; client_max_window_bits; client_max_window_bits",
            "permessage-deflate; client_max_window_bits; client_max_window_bits=9",
            "Permessage-Deflate",
            "permessage-deflate; server_max_window_bits=\"9",
            "x-webkit-deflate-frame",
            "",
        ] {
            assert_eq!(answer(&[offer]), None, "{offer}");
        }
    }

    #[test]
    fn answer_that_fits_the_offer_is_confirmed() {
        let confirmed = |answers: &[&str]| confirm(answers).map(|a| a.map(|a| (a.window, a.peer_takes_over)));
        assert_eq!(confirmed(&[]), Ok(None));
        assert_eq!(confirmed(&["", " , "]), Ok(None));
        assert_eq!(confirmed(&["permessage-deflate"]), Ok(Some((15, true))));
        assert_eq!(confirmed(&[USUAL]), Ok(Some((15, false))));
        let small = "permessage-deflate; client_max_window_bits=\"9\"; server_max_window_bits=8";
        assert_eq!(confirmed(&[small]), Ok(Some((9, true))));
    }

    #[test]
    fn answer_that_does_not_fit_the_offer_is_a_mistake() {
        let mistake = |answers: &[&str]| confirm(answers).unwrap_err();
        for answers in [&["x"][..], &["permessage-deflate, x"], &["permessage-deflate", "permessage-deflate"]] {
            assert_eq!(mistake(answers), "the answer uses an extension that was not offered");
        }
        let invalid = ["client_max_window_bits", "server_max_window_bits=99", "server_max_window_bits", "z", "z=1"];
        for param in invalid {
            let mistake = mistake(&[&format!("permessage-deflate; {param}")]);
            assert_eq!(mistake, "the answer's parameters of permessage-deflate are invalid", "{param}");
        }
        assert_eq!(mistake(&["permessage-deflate server"]), "the answer's list of extensions is malformed");
    }

    #[test]
    fn client_that_refuses_takeover_wants_it_confirmed() {
        let mut offer = Deflate::new().offer();
        offer.refuse_takeover();
        let confirm = |answer| offer.confirm([answer].into_iter());
        assert!(confirm(NAME).is_err());
        assert_eq!(confirm(USUAL), Ok(Some(Deflate::new().usual())));
        let Answered { value, .. } = answer(&[offer.value("/").unwrap()]).unwrap();
        assert_eq!(value, USUAL);
    }

    #[test]
    fn nothing_is_offered_on_other_paths() {
        let offer = Deflate::new().paths(["/a"]).offer();
        assert_eq!((offer.value("/a"), offer.value("/b")), (Some(OFFER), None));
    }

    /// A parameter, mostly one of the extension's.
    fn param() -> impl Strategy<Value = String> {
        let name = prop_oneof![
            9 => "(server|client)_(no_context_takeover|max_window_bits)",
            1 => "[a-z]{1,3}"
        ];
        (name, prop_oneof![Just(String::new()), "=\"?[0-9]{0,3}\"?"]).prop_map(|(name, value)| name + &value)
    }

    proptest! {
        #[test]
        fn any_header_is_answered_or_declined(values in prop::collection::vec("[ -~]{0,60}|\\PC{0,20}", 0..4)) {
            let values = || values.iter().map(String::as_str);
            let _ = (Deflate::new().answer(values()), Deflate::new().offer().confirm(values()));
        }

        #[test]
        fn answer_to_any_offer_is_one_that_a_client_confirms(params in prop::collection::vec(param(), 0..5)) {
            let offer = [NAME.to_owned()].into_iter().chain(params).collect::<Vec<_>>().join(";");
            if let Some(Answered { agreed, value }) = answer(&[&offer]) {
                let of_client = confirm(&[&value]).unwrap().unwrap();
                prop_assert!((SMALLEST_WINDOW..=LARGEST_WINDOW).contains(&agreed.window));
                prop_assert!(!of_client.peer_takes_over && !agreed.peer_takes_over);
                prop_assert_eq!(of_client.window, LARGEST_WINDOW);
            }
        }
    }
}
