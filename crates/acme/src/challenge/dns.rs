//! `dns-01` (RFC 8555, 8.4): a record below `_acme-challenge`, made by updates (RFC 2136) that are signed (RFC 8945), over TCP.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hickory_proto::op::update_message::{append, delete_by_rdata};
use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::rdata::TXT;
use hickory_proto::rr::rdata::tsig::TsigAlgorithm;
use hickory_proto::rr::{Name, RData, Record, RecordSet, RecordType, TSigner};
use jiff::Timestamp;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::config::Dns;
use crate::trouble::Trouble;

/// How long a resolver may keep the record: it stands for some seconds, and the next one must be seen.
const TTL: u32 = 1;

/// How far the name server's clock may be from ours.
const FUDGE: u16 = 300;

/// How long one question may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The name of the record for a domain.
pub fn record(domain: &str) -> String {
    format!("_acme-challenge.{}", domain.strip_prefix("*.").unwrap_or(domain))
}

/// Checks a configuration as far as that goes without its secret.
///
/// # Errors
/// What is wrong, one sentence.
pub(crate) fn check(dns: &Dns) -> Result<(), String> {
    algorithm(&dns.algorithm)?;
    for (key, text) in [("zone", &dns.zone), ("key", &dns.key)] {
        name(text).map_err(|why| format!("[dns] `{key}` is `{text}`, which is no name: {}", why.why))?;
    }
    Ok(())
}

fn algorithm(name: &str) -> Result<TsigAlgorithm, String> {
    match name {
        "hmac-sha256" => Ok(TsigAlgorithm::HmacSha256),
        "hmac-sha384" => Ok(TsigAlgorithm::HmacSha384),
        "hmac-sha512" => Ok(TsigAlgorithm::HmacSha512),
        _ => Err(format!(
            "[dns] `algorithm` is `{name}`; it is hmac-sha256, hmac-sha384 or hmac-sha512"
        )),
    }
}

fn name(text: &str) -> Result<Name, Trouble> {
    let mut name = Name::from_ascii(text).map_err(|e| Trouble::refused(format!("`{text}`: {e}")))?;
    name.set_fqdn(true);
    Ok(name)
}

fn secret(path: &Path) -> Result<Vec<u8>, Trouble> {
    let text = std::fs::read_to_string(path);
    let text = text.map_err(|e| Trouble::refused(format!("cannot read the key of [dns] {}: {e}", path.display())))?;
    let key = BASE64_STANDARD.decode(text.trim());
    key.map_err(|e| Trouble::refused(format!("{} is no key in base64: {e}", path.display())))
}

/// Adds a record, or removes it, and returns when the server has said that it did.
pub(crate) async fn update(dns: &Dns, record: &str, value: &str, add: bool) -> Result<(), Trouble> {
    let (zone, record) = (name(&dns.zone)?, name(record)?);
    if !zone.zone_of(&record) {
        return Err(Trouble::refused(format!("{record} is not in the zone {zone}")));
    }
    let signer = TSigner::new(
        secret(&dns.secret_file)?,
        algorithm(&dns.algorithm).map_err(Trouble::refused)?,
        name(&dns.key)?,
        FUDGE,
    );
    let signer = signer.map_err(|e| Trouble::refused(format!("the key of [dns] cannot be used: {e}")))?;
    let mut set = RecordSet::with_ttl(record.clone(), RecordType::TXT, TTL);
    let data = RData::TXT(TXT::new(vec![value.to_owned()]));
    set.insert(Record::from_rdata(record.clone(), TTL, data), 0);
    let mut message = match add {
        true => append(set, zone.clone(), false, false),
        false => delete_by_rdata(set, zone.clone(), false),
    };
    let odd = |what: &str, why: &dyn std::fmt::Display| {
        Trouble::unreachable(format!("the update of {zone} cannot be {what}: {why}"))
    };
    let now = u64::try_from(Timestamp::now().as_second()).unwrap_or(0);
    let verifier = message.finalize(&signer, now).map_err(|e| odd("signed", &e))?;
    let bytes = message.to_vec().map_err(|e| odd("written", &e))?;
    let answer = ask(dns.server, &bytes).await?;
    let told = Message::from_vec(&answer).map_err(|e| odd("judged: its answer cannot be read", &e))?;
    let code = told.metadata.response_code;
    if code != ResponseCode::NoError {
        return Err(Trouble::refused(format!(
            "the name server {} refuses to change {record}: {code}{}",
            dns.server,
            help(code)
        )));
    }
    if let Some(mut verifier) = verifier {
        let wrong = verifier.verify(&answer);
        wrong.map_err(|e| odd("judged: its answer is not signed by the same key", &e))?;
    }
    Ok(())
}

fn help(code: ResponseCode) -> &'static str {
    match code {
        ResponseCode::NotAuth => {
            "; look at the key's name, algorithm and secret on both sides, whether the clocks agree, and whether it serves the zone"
        }
        ResponseCode::Refused => "; the key must be allowed to update the zone",
        ResponseCode::NotZone => "; `zone` must be the zone itself, not a name in it",
        _ => "",
    }
}

/// Waits until every server that is to be checked shows a record.
pub(crate) async fn shown(dns: &Dns, record: &str, value: &str) -> Result<(), Trouble> {
    let (record, until) = (
        name(record)?,
        Instant::now() + Duration::from_secs(dns.wait_seconds.into()),
    );
    let own = [dns.server];
    let servers = if dns.check.is_empty() { &own[..] } else { &dns.check };
    for server in servers {
        let mut pause = Duration::from_millis(50);
        loop {
            let seen = values(*server, &record).await;
            if seen.as_ref().is_ok_and(|all| all.iter().any(|one| one == value)) {
                break;
            }
            if Instant::now() >= until {
                let why = seen.err().map_or("it does not have it".to_owned(), |e| e.why);
                return Err(Trouble::refused(format!(
                    "the name server {server} does not show {record} after {} seconds: {why}",
                    dns.wait_seconds
                )));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(5));
        }
    }
    Ok(())
}

async fn values(server: SocketAddr, record: &Name) -> Result<Vec<String>, Trouble> {
    let odd = |why: &dyn std::fmt::Display| Trouble::unreachable(format!("{server}: {why}"));
    let mut message = Message::query();
    message.add_query(Query::query(record.clone(), RecordType::TXT));
    let answer = ask(server, &message.to_vec().map_err(|e| odd(&e))?).await?;
    let answer = Message::from_vec(&answer).map_err(|e| odd(&e))?;
    let text = |record: &Record| match &record.data {
        RData::TXT(text) => Some(
            text.txt_data
                .iter()
                .map(|part| String::from_utf8_lossy(part))
                .collect::<String>(),
        ),
        _ => None,
    };
    Ok(answer.answers.iter().filter_map(text).collect())
}

async fn ask(server: SocketAddr, message: &[u8]) -> Result<Vec<u8>, Trouble> {
    let talk = async {
        let mut stream = TcpStream::connect(server).await?;
        let length = u16::try_from(message.len()).map_err(std::io::Error::other)?;
        stream.write_all(&[&length.to_be_bytes(), message].concat()).await?;
        let mut answer = vec![0; usize::from(stream.read_u16().await?)];
        stream.read_exact(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    match tokio::time::timeout(PATIENCE, talk).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(e)) => Err(Trouble::unreachable(format!(
            "the name server {server} does not answer: {e}"
        ))),
        Err(_) => Err(Trouble::unreachable(format!(
            "the name server {server} does not answer within 10 seconds"
        ))),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_star_and_its_domain_share_one_record() {
        assert_eq!(super::record("*.home.example"), super::record("home.example"));
        assert_eq!(super::record("home.example"), "_acme-challenge.home.example");
    }
}
