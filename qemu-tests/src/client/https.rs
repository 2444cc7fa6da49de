//! HTTPS, without checking the certificate: a fresh appliance's is its own.

use std::time::Duration;

use ureq::tls::TlsConfig;

use crate::error::HarnessError;

/// Fetches a page; gives its status and text.
///
/// # Errors
/// When no answer comes within 30 s.
pub fn get(port: u16, path: &str) -> Result<(u16, String), HarnessError> {
    let address = format!("https://127.0.0.1:{port}{path}");
    let fail = |error: ureq::Error| HarnessError::Service {
        service: "HTTPS",
        address: address.clone(),
        reason: error.to_string(),
    };
    let tls = TlsConfig::builder().disable_verification(true).build();
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .tls_config(tls)
        .timeout_global(Some(Duration::from_secs(30)))
        .http_status_as_error(false)
        .max_redirects(0)
        .build()
        .into();
    let mut answer = agent.get(&address).call().map_err(fail)?;
    let text = answer.body_mut().read_to_string().map_err(fail)?;
    Ok((answer.status().as_u16(), text))
}
