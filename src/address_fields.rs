//! A [`ConnConfig`] as it stands in a configuration file: a URL, or its parts by name.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, Visitor, value::MapAccessDeserializer},
};

use crate::ConnConfig;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    host: String,
    port: u16,
    #[serde(default)]
    path: String,
    #[serde(default)]
    query: String,
    #[serde(default)]
    tls: bool,
}

/// As a URL.
#[cfg_attr(docsrs, doc(cfg(feature = "config")))]
impl Serialize for ConnConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// From a URL, or from `host`, `port`, `path`, `query` and `tls`, of which the last three may be missing.
#[cfg_attr(docsrs, doc(cfg(feature = "config")))]
impl<'de> Deserialize<'de> for ConnConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UrlOrFields)
    }
}

struct UrlOrFields;

impl<'de> Visitor<'de> for UrlOrFields {
    type Value = ConnConfig;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a WebSocket URL, or its host, port, path, query and tls")
    }

    fn visit_str<E: de::Error>(self, url: &str) -> Result<ConnConfig, E> {
        url.parse().map_err(E::custom)
    }

    fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<ConnConfig, A::Error> {
        let fields = Fields::deserialize(MapAccessDeserializer::new(map))?;
        let config = ConnConfig::try_new(&fields.host, fields.port)
            .map_err(|reason| de::Error::custom(format!("host: {reason}")))?;
        Ok(config.path(fields.path).query(fields.query).tls(fields.tls))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json, to_value};

    use super::*;

    fn refusal(config: serde_json::Value) -> String {
        from_value::<ConnConfig>(config).unwrap_err().to_string()
    }

    #[test]
    fn url_and_parts_give_the_same_address() {
        let url = json!("wss://example.com:9000/chat?room=7");
        let parts = json!({"host": "example.com", "port": 9000, "path": "/chat", "query": "room=7", "tls": true});
        let config: ConnConfig = from_value(url.clone()).unwrap();
        assert_eq!(from_value::<ConnConfig>(parts).unwrap(), config);
        assert_eq!(to_value(config).unwrap(), url);
        let short: ConnConfig = from_value(json!({"host": "::1", "port": 80})).unwrap();
        assert_eq!(short, ConnConfig::new("::1", 80));
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert!(refusal(json!({"host": "h", "port": 1, "pth": "/"})).contains("unknown field `pth`"));
        assert!(refusal(json!({"host": "a b", "port": 1})).contains("host: "));
        assert!(refusal(json!({"port": 1})).contains("missing field `host`"));
        assert!(refusal(json!("http://h")).contains("http:// is not a WebSocket scheme"));
        assert!(refusal(json!(7)).contains("a WebSocket URL, or its host"));
    }
}
