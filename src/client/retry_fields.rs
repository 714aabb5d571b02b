//! A [`RetryPolicy`] as it stands in a configuration file.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::retry::{OnRejected, RetryPolicy};

/// Its options by name, durations in seconds. A missing one has its default.
#[derive(Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RetryFields {
    #[serde(skip_serializing_if = "Option::is_none")]
    first_delay: Option<f64>,
    base_delay: f64,
    max_delay: f64,
    factor: f64,
    jitter: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_retries: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_elapsed: Option<f64>,
    max_retry_after: f64,
    on_rejected: OnRejected,
}

impl Default for RetryFields {
    fn default() -> Self {
        RetryPolicy::default().into()
    }
}

impl From<RetryPolicy> for RetryFields {
    fn from(policy: RetryPolicy) -> Self {
        Self {
            first_delay: policy.first_delay.as_ref().map(Duration::as_secs_f64),
            base_delay: policy.base_delay.as_secs_f64(),
            max_delay: policy.max_delay.as_secs_f64(),
            factor: policy.factor,
            jitter: policy.jitter,
            max_retries: policy.max_retries,
            max_elapsed: policy.max_elapsed.as_ref().map(Duration::as_secs_f64),
            max_retry_after: policy.max_retry_after.as_secs_f64(),
            on_rejected: policy.on_rejected,
        }
    }
}

/// Says which option has a bad value, instead of the panic that the builder has for it.
impl TryFrom<RetryFields> for RetryPolicy {
    type Error = String;

    fn try_from(fields: RetryFields) -> Result<Self, String> {
        if !(fields.factor.is_finite() && fields.factor >= 1.0) {
            return Err(format!("factor must be a finite number from 1 on, not {}", fields.factor));
        }
        Ok(Self {
            first_delay: fields.first_delay.map(|delay| seconds("first_delay", delay)).transpose()?,
            base_delay: delay("base_delay", fields.base_delay)?,
            max_delay: delay("max_delay", fields.max_delay)?,
            factor: fields.factor,
            jitter: fields.jitter,
            max_retries: fields.max_retries,
            max_elapsed: fields.max_elapsed.map(|time| seconds("max_elapsed", time)).transpose()?,
            max_retry_after: seconds("max_retry_after", fields.max_retry_after)?,
            on_rejected: fields.on_rejected,
        })
    }
}

fn seconds(option: &str, seconds: f64) -> Result<Duration, String> {
    Duration::try_from_secs_f64(seconds)
        .map_err(|error| format!("{option} must be a number of seconds, not {seconds}: {error}"))
}

fn delay(option: &str, delay: f64) -> Result<Duration, String> {
    let delay = seconds(option, delay)?;
    if delay.is_zero() { Err(format!("{option} must be longer than zero")) } else { Ok(delay) }
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json, to_value};

    use super::*;

    #[test]
    fn policy_survives_a_configuration_file() {
        let policy = RetryPolicy::exponential()
            .first_delay(Duration::ZERO)
            .max_delay(Duration::from_millis(2_500))
            .max_retries(3)
            .max_elapsed(Duration::from_secs(60))
            .on_rejected(OnRejected::GiveUp);
        let file = to_value(policy.clone()).unwrap();
        assert_eq!((&file["max_delay"], &file["on_rejected"]), (&json!(2.5), &json!("give_up")));
        assert_eq!(from_value::<RetryPolicy>(file).unwrap(), policy);
        assert_eq!(from_value::<RetryPolicy>(json!({})).unwrap(), RetryPolicy::default());
    }

    #[test]
    fn what_is_wrong_is_named() {
        let wrong = [
            (json!({"max_dely": 1}), "unknown field `max_dely`"),
            (json!({"base_delay": 0}), "base_delay must be longer than zero"),
            (json!({"max_elapsed": -1}), "max_elapsed must be a number of seconds"),
            (json!({"factor": 0.5}), "factor must be a finite number from 1 on"),
            (json!({"on_rejected": "never"}), "unknown variant `never`"),
        ];
        for (file, what) in wrong {
            let said = from_value::<RetryPolicy>(file).unwrap_err().to_string();
            assert!(said.contains(what), "{said}");
        }
    }
}
