//! How a device comes to trust the appliance's authority: its certificate in the forms that devices take, and what to press on each. Nothing
//! of it is secret, and a device that does not trust yet is rarely one on which somebody is logged in; so the pages are for everybody.

use cairn_api::{Authority, Certificates};
use data_encoding::BASE64;
use hyper::header;

use crate::app::{App, Failure, Visit};
use crate::http::Response;
use crate::view::values;

/// The devices of which the page speaks, by the keys of their words.
const DEVICES: [&str; 7] = ["windows", "macos", "ios", "android", "linux", "firefox", "chrome"];

async fn authority(app: &App) -> Result<Authority, Failure> {
    let all: Certificates = app.control.get("/v1/certificates").await?;
    all.authority.ok_or(Failure::Refused(404, "error.no-authority"))
}

/// The page.
pub(super) async fn show(app: &App, visit: &Visit) -> Result<Response, Failure> {
    let authority = authority(app).await?;
    app.page(visit, 200, "trust.html", values! { authority, devices => DEVICES })
}

/// The certificate, as a file.
pub(super) async fn file(app: &App, name: &str) -> Result<Response, Failure> {
    let authority = authority(app).await?;
    let (kind, body) = match name {
        "cairn-ca.crt" => ("application/x-x509-ca-cert", authority.pem),
        "cairn-ca.mobileconfig" => {
            let profile = profile(&authority).ok_or(Failure::Refused(404, "error.no-authority"))?;
            ("application/x-apple-aspen-config", profile)
        }
        _ => return Err(Failure::Refused(404, "error.nothing-here")),
    };
    let told = format!("attachment; filename=\"{name}\"");
    Ok(Response::new(200, kind, body).with(header::CONTENT_DISPOSITION, &told))
}

/// A configuration profile as Apple's devices take it, with the certificate in it. It is the same for the same certificate, so that a
/// second one takes the place of the first.
fn profile(authority: &Authority) -> Option<String> {
    let lines = authority.pem.lines().filter(|line| !line.starts_with("-----"));
    let der = BASE64.decode(lines.collect::<String>().as_bytes()).ok()?;
    let data = BASE64.encode(&der);
    let name = escaped(&authority.name);
    let print: String = authority.fingerprint.chars().filter(char::is_ascii_hexdigit).collect();
    let (one, two) = (uuid(print.get(..32)?), uuid(print.get(32..64)?));
    Some(format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <!DOCTYPE plist PUBLIC \"-//Apple//DTD PLIST 1.0//EN\" \"http://www.apple.com/DTDs/PropertyList-1.0.dtd\">\n\
         <plist version=\"1.0\"><dict>\n\
         <key>PayloadContent</key><array><dict>\n\
         <key>PayloadType</key><string>com.apple.security.root</string>\n\
         <key>PayloadVersion</key><integer>1</integer>\n\
         <key>PayloadIdentifier</key><string>cairn.authority.{one}</string>\n\
         <key>PayloadUUID</key><string>{one}</string>\n\
         <key>PayloadDisplayName</key><string>{name}</string>\n\
         <key>PayloadContent</key><data>{data}</data>\n\
         </dict></array>\n\
         <key>PayloadType</key><string>Configuration</string>\n\
         <key>PayloadVersion</key><integer>1</integer>\n\
         <key>PayloadIdentifier</key><string>cairn.profile.{two}</string>\n\
         <key>PayloadUUID</key><string>{two}</string>\n\
         <key>PayloadDisplayName</key><string>{name}</string>\n\
         </dict></plist>\n"
    ))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// A name of RFC 9562's version 8 from 128 bits in hexadecimal.
fn uuid(hex: &str) -> String {
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
    let text = format!(
        "{}-{}-8{}-8{}-{}",
        part(0, 8),
        part(8, 12),
        part(13, 16),
        part(17, 20),
        part(20, 32)
    );
    text.to_uppercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_holds_the_certificate_and_is_the_same_each_time() {
        let authority = Authority {
            name: "birch <Cairn> & co".into(),
            fingerprint:
                "3F:A1:77:0C:52:9E:B4:18:6D:E2:41:90:AA:5B:C3:0F:11:87:6E:24:D9:38:F5:4C:72:BE:03:9A:60:DD:2B:E7".into(),
            permitted: Vec::new(),
            pem: "-----BEGIN CERTIFICATE-----\nTUlJ\nQg==\n-----END CERTIFICATE-----\n".into(),
        };
        let text = profile(&authority).unwrap();
        assert!(
            text.contains("<data>TUlJQg==</data>") && text.contains("birch &lt;Cairn&gt; &amp; co"),
            "{text}"
        );
        assert!(text.contains("3FA1770C-529E-8418-8DE2-4190AA5BC30F"), "{text}");
        assert_eq!(profile(&authority).unwrap(), text);
        assert_eq!(
            profile(&Authority {
                pem: "no certificate".into(),
                ..authority
            }),
            None
        );
    }
}
