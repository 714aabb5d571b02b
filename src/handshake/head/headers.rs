//! [`Headers`]: those of a request, in no more memory than they were sent in.

use http::{HeaderMap, HeaderName, HeaderValue};

/// A length has seven bits in each byte, the lowest first; this bit says that another byte follows.
const MORE: u8 = 0x80;

/// The headers of a request in their order, names in lower case, each name and each value behind its length. An open connection
/// keeps them, and as a map they take 100 bytes each; and to find one of a few among them is faster than to make a map.
#[derive(Debug, PartialEq)]
pub(in crate::handshake) struct Headers(Box<[u8]>);

impl Headers {
    pub(in crate::handshake) fn pack<'a>(headers: impl Iterator<Item = (&'a str, &'a [u8])> + Clone) -> Self {
        let len = headers.clone().map(|(name, value)| packed_len(name.len()) + packed_len(value.len())).sum();
        let mut packed = Vec::with_capacity(len);
        for (name, value) in headers {
            put_len(&mut packed, name.len());
            let begin = packed.len();
            packed.extend_from_slice(name.as_bytes());
            packed[begin..].make_ascii_lowercase();
            put_len(&mut packed, value.len());
            packed.extend_from_slice(value);
        }
        Self(packed.into())
    }

    pub(in crate::handshake) fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut rest = &*self.0;
        std::iter::from_fn(move || Some((take(&mut rest)?, take(&mut rest)?)))
    }

    /// The values of all headers with this name.
    pub(in crate::handshake) fn get_all(&self, name: &HeaderName) -> impl Iterator<Item = &[u8]> {
        let name = name.as_str().as_bytes();
        self.iter().filter(move |(own, _)| *own == name).map(|(_, value)| value)
    }

    pub(in crate::handshake) fn to_map(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in self.iter() {
            if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
                headers.append(name, value);
            }
        }
        headers
    }
}

impl From<&HeaderMap> for Headers {
    fn from(headers: &HeaderMap) -> Self {
        let lines: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        Self::pack(lines.into_iter())
    }
}

/// What as many bytes take behind their length.
fn packed_len(len: usize) -> usize {
    let digits = len.checked_ilog2().map_or(1, |last_bit| last_bit as usize / 7 + 1);
    digits + len
}

fn put_len(packed: &mut Vec<u8>, mut len: usize) {
    while len >= usize::from(MORE) {
        packed.push(len as u8 | MORE);
        len >>= 7;
    }
    packed.push(len as u8);
}

/// Takes a length, and as many bytes.
fn take<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (mut len, mut shift) = (0, 0);
    loop {
        let (first, others) = rest.split_first()?;
        *rest = others;
        len |= usize::from(first & !MORE) << shift;
        shift += 7;
        if first & MORE == 0 {
            break;
        }
    }
    let (taken, others) = rest.split_at_checked(len)?;
    *rest = others;
    Some(taken)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn headers_come_out_as_they_went_in(
            lines in prop::collection::vec(("[a-c]{1,2}", "[ -~\u{e9}\t]{0,9}"), 0..9),
            long in 0_usize..40_000,
        ) {
            let mut headers = HeaderMap::new();
            for (name, value) in lines.into_iter().chain([("long".to_owned(), "x".repeat(long))]) {
                headers.append(HeaderName::try_from(name).unwrap(), HeaderValue::try_from(value).unwrap());
            }
            let packed = Headers::from(&headers);
            prop_assert_eq!(packed.to_map(), headers.clone());
            for name in headers.keys() {
                let values = headers.get_all(name).into_iter().map(HeaderValue::as_bytes);
                prop_assert!(packed.get_all(name).eq(values));
            }
        }

        #[test]
        fn any_case_of_a_name_is_found(name in "[a-zA-Z-]{1,30}") {
            let headers = Headers::pack([(&*name, &b"1"[..])].into_iter());
            let name = HeaderName::try_from(name).unwrap();
            prop_assert!(headers.get_all(&name).eq([b"1"]));
        }
    }

    #[test]
    fn every_length_is_read_as_it_was_put() {
        for len in [0, 1, 127, 128, 129, 16_383, 16_384, 3_000_000] {
            let value = vec![b'x'; len];
            let headers = Headers::pack([("a", &*value), ("b", b"end")].into_iter());
            assert!(headers.iter().eq([(&b"a"[..], &*value), (b"b", b"end")]));
            assert_eq!(headers.0.len(), packed_len(1) + packed_len(len) + packed_len(1) + packed_len(3));
        }
    }
}
