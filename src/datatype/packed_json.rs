use serde::{Serialize, de::DeserializeOwned};

use super::json;
use crate::{DatatypeError, WsText};

/// A value of some serde type, kept as JSON until someone asks for it. Cheaply cloned.
///
/// It always holds one whole JSON value that nests at most 64 arrays and objects deep: text that arrives is checked on arrival. Two
/// are equal when their texts are.
///
/// ```
/// use rxplus::prelude::*;
///
/// let packed = PackedJson::new(&("answer", 42))?;
/// assert_eq!(packed.as_json().as_str(), r#"["answer",42]"#);
/// assert_eq!(packed.decode::<(String, u8)>()?, ("answer".into(), 42));
/// # Ok::<(), DatatypeError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PackedJson {
    text: WsText,
}

impl PackedJson {
    /// Encodes `value`.
    ///
    /// # Errors
    ///
    /// When the value nests more than 64 arrays and objects deep, holds a number that JSON has not, or its `Serialize` fails.
    pub fn new<T: Serialize + ?Sized>(value: &T) -> Result<Self, DatatypeError> {
        json::encode(value).map(|text| Self { text: text.into() })
    }

    /// Takes JSON text, which is checked and not copied.
    ///
    /// # Errors
    ///
    /// When it is not one whole JSON value that nests at most 64 arrays and objects deep.
    pub fn from_json(text: impl Into<WsText>) -> Result<Self, DatatypeError> {
        let text = text.into();
        json::check(&text).map(|()| Self { text })
    }

    /// Reads it as a `T`.
    ///
    /// # Errors
    ///
    /// When it is no `T`.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, DatatypeError> {
        json::decode(&self.text)
    }

    /// The JSON text.
    pub fn as_json(&self) -> &WsText {
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datatype::testing::{BOMB, Tree};

    #[test]
    fn text_that_is_not_one_value_is_refused_on_arrival() {
        for text in ["", "{", "1 2", "nul", "[1,]", &"[".repeat(BOMB)] {
            assert!(PackedJson::from_json(text).is_err(), "{text:.9}");
        }
        assert!(PackedJson::new(&Tree::wrapped(65)).is_err());
        assert_eq!(PackedJson::from_json(" [1, 2] ").unwrap().decode::<[u8; 2]>().unwrap(), [1, 2]);
    }
}
