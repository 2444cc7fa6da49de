//! The steps of one order. After each, what is needed to go on is on the disk.

use std::time::Duration;

use cairn_config::pki::{AltName, Names, examine};
use instant_acme::{
    Account, AuthorizationStatus, CertificateIdentifier, ChallengeStatus, ChallengeType, Error, Identifier, NewOrder,
    Order, OrderStatus, RetryPolicy,
};
use jiff::SignedDuration;
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use crate::challenge::dns;
use crate::config::{Challenge, PATIENCE, Wanted};
use crate::held::{Kept, Pending, Window, texts};
use crate::plan::recent;
use crate::run::World;
use crate::trouble::{Kind, Trouble};

/// The problem that stands for a certificate that was issued and cannot be used.
const UNUSABLE: &str = "unusable";

/// Orders a certificate, with a new key.
pub(crate) async fn order(world: &World, of: &str, names: &Names, kept: &mut Kept) -> Result<(), Trouble> {
    let account = world.account().await?;
    world.clock_agrees()?;
    let key = KeyPair::generate().map_err(|e| Trouble::refused(format!("cannot make a key: {e}")))?;
    let identifier = |name: &AltName| match name {
        AltName::Dns(name) => Identifier::Dns(name.clone()),
        AltName::Ip(address) => Identifier::Ip(*address),
    };
    let identifiers: Vec<Identifier> = names.iter().map(identifier).collect();
    let plain = || match &world.config.profile {
        Some(profile) => NewOrder::new(&identifiers).profile(profile),
        None => NewOrder::new(&identifiers),
    };
    // An authority that suggests when to renew wants to know what is renewed, and counts that less.
    let knows = kept.window.as_ref().is_some_and(|window| window.between.is_some());
    let replaced = if knows && kept.directory == world.config.directory {
        leaf(world, of)?
    } else {
        None
    };
    let replaced = replaced
        .as_ref()
        .and_then(|leaf| CertificateIdentifier::try_from(leaf).ok());
    let made = match replaced {
        Some(replaced) => match account.new_order(&plain().replaces(replaced)).await {
            Err(Error::Api(problem)) if Trouble::from(problem.clone()).kind != Kind::Refused => {
                Err(Error::Api(problem))
            }
            // It may have been replaced already, by an order whose answer was lost.
            Err(Error::Api(_) | Error::Unsupported(_) | Error::Json(_)) => account.new_order(&plain()).await,
            other => other,
        },
        None => account.new_order(&plain()).await,
    };
    let order = made.map_err(|e| world.lost_account(e.into()).at("the order was not taken"))?;
    kept.order = Some(Pending {
        url: order.url().to_owned(),
        directory: world.config.directory.clone(),
        names: texts(names),
        key: key.serialize_pem(),
        since: (world.now)(),
    });
    world.store.keep(of, kept)
}

/// The certificate that is held, without those above it.
fn leaf(world: &World, of: &str) -> Result<Option<CertificateDer<'static>>, Trouble> {
    let pem = world.store.pem(of)?;
    Ok(pem.and_then(|pem| CertificateDer::from_pem_slice(pem.as_bytes()).ok()))
}

/// Asks when the authority suggests to renew.
pub(crate) async fn ask_window(world: &World, of: &str, kept: &mut Kept) -> Result<(), Trouble> {
    let account = world.account().await?;
    let leaf = leaf(world, of)?;
    let Some(id) = leaf
        .as_ref()
        .and_then(|leaf| CertificateIdentifier::try_from(leaf).ok())
    else {
        kept.window = Some(world.window(None, Duration::from_secs(86_400)));
        return world.store.keep(of, kept);
    };
    let window = match account.renewal_info(&id).await {
        Ok((info, again)) => {
            let at = |at: i64| jiff::Timestamp::from_second(at).ok();
            let window = info.suggested_window;
            let between = at(window.start.unix_timestamp()).zip(at(window.end.unix_timestamp()));
            world.window(between, again)
        }
        // An authority that does not speak of it now may begin to.
        Err(Error::Unsupported(_)) => world.window(None, Duration::from_secs(86_400)),
        Err(e) => return Err(e.into()),
    };
    kept.window = Some(window);
    world.store.keep(of, kept)
}

/// Goes on with an order to its end: a certificate, or a reason.
pub(crate) async fn resume(world: &World, of: &str, wanted: &Wanted, kept: &mut Kept) -> Result<(), Trouble> {
    let Some(pending) = kept.order.clone() else {
        return Ok(());
    };
    clear_records(world, of, kept).await?;
    let mut shown = Vec::new();
    let out = go_on(world, of, wanted, &pending, kept, &mut shown).await;
    for (name, token) in shown {
        world.answers.page(&token, None);
        world.answers.certificate(&name, None)?;
    }
    clear_records(world, of, kept).await?;
    if let Err(trouble) = &out
        && trouble.kind == Kind::Refused
        && trouble.problem.is_some()
    {
        // What the authority has refused it goes on to refuse. The next attempt is another order.
        kept.order = None;
        world.store.keep(of, kept)?;
    }
    out
}

/// Removes the records that may stand in the zone. What cannot be removed now is tried again in an hour.
pub(crate) async fn clear_records(world: &World, of: &str, kept: &mut Kept) -> Result<(), Trouble> {
    let Some(dns) = world.config.dns.as_ref().filter(|_| !kept.records.is_empty()) else {
        return Ok(());
    };
    let mut left = Vec::new();
    for (record, value) in std::mem::take(&mut kept.records) {
        if dns::update(dns, &record, &value, false).await.is_err() {
            left.push((record, value));
        }
    }
    let later = (world.now)().saturating_add(SignedDuration::from_hours(1));
    kept.clear_at = later.ok().filter(|_| !left.is_empty());
    kept.records = left;
    world.store.keep(of, kept)
}

fn policy() -> RetryPolicy {
    let patience = Duration::from_secs(PATIENCE.as_secs().unsigned_abs());
    RetryPolicy::new()
        .initial_delay(Duration::from_millis(250))
        .backoff(1.6)
        .timeout(patience)
}

async fn go_on(
    world: &World,
    of: &str,
    wanted: &Wanted,
    pending: &Pending,
    kept: &mut Kept,
    shown: &mut Vec<(String, String)>,
) -> Result<(), Trouble> {
    let account = world.account().await?;
    let found = account.order(pending.url.clone()).await;
    let mut order = found.map_err(|e| world.lost_account(e.into()).at("the order is not known any more"))?;
    if order.state().status == OrderStatus::Pending {
        show(world, of, wanted, &mut order, kept, shown).await?;
        let polled = order.poll_ready(&policy()).await;
        if matches!(polled, Ok(OrderStatus::Invalid)) || order.state().status == OrderStatus::Invalid {
            return Err(reason(&mut order).await);
        }
        polled?;
    }
    if order.state().status == OrderStatus::Ready {
        let key =
            KeyPair::from_pem(&pending.key).map_err(|e| unusable(format!("the order's key cannot be read: {e}")))?;
        let mut request = CertificateParams::new(pending.names.clone()).map_err(|e| unusable(e.to_string()))?;
        request.distinguished_name = DistinguishedName::new();
        let request = request.serialize_request(&key).map_err(|e| unusable(e.to_string()))?;
        let asked = order.finalize_csr(request.der()).await;
        asked.map_err(|e| Trouble::from(e).at("the request was not taken"))?;
    }
    if order.state().status == OrderStatus::Processing {
        order.poll_certificate(&policy()).await?;
    }
    if order.state().status == OrderStatus::Invalid {
        return Err(reason(&mut order).await);
    }
    let chain = chain(world, &account, &mut order).await?;
    receive(world, of, wanted, pending, &chain, kept)
}

fn unusable(why: impl Into<String>) -> Trouble {
    let mut trouble = Trouble::refused(why);
    trouble.problem = Some(UNUSABLE.to_owned());
    trouble
}

/// Shows that each name is the owner's, and says so to the authority.
async fn show(
    world: &World,
    of: &str,
    wanted: &Wanted,
    order: &mut Order,
    kept: &mut Kept,
    shown: &mut Vec<(String, String)>,
) -> Result<(), Trouble> {
    let kind = match wanted.challenge {
        Challenge::Http => ChallengeType::Http01,
        Challenge::TlsAlpn => ChallengeType::TlsAlpn01,
        Challenge::Dns => ChallengeType::Dns01,
    };
    let mut records = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(next) = authorizations.next().await {
        let mut one = next?;
        let name = one.identifier().to_string();
        match one.status {
            AuthorizationStatus::Pending => {}
            AuthorizationStatus::Valid => continue,
            // The order's state says the same a moment later, with the reason.
            _ => continue,
        }
        let Some(challenge) = one.challenge(kind.clone()) else {
            return Err(unusable(format!(
                "the authority does not offer {} for {name}",
                wanted.challenge.name()
            )));
        };
        let answer = challenge.key_authorization();
        match wanted.challenge {
            Challenge::Http => world.answers.page(&challenge.token, Some(answer.as_str().to_owned())),
            Challenge::TlsAlpn => world.answers.certificate(&name, Some(answer.digest().as_ref()))?,
            Challenge::Dns => records.push((dns::record(&name), answer.dns_value())),
        }
        shown.push((name, challenge.token.clone()));
    }
    if let Some(dns) = world.config.dns.as_ref().filter(|_| !records.is_empty()) {
        kept.records.extend(records.iter().cloned());
        world.store.keep(of, kept)?;
        for (record, value) in &records {
            dns::update(dns, record, value, true).await?;
        }
        for (record, value) in &records {
            dns::shown(dns, record, value).await?;
        }
    }
    let mut authorizations = order.authorizations();
    while let Some(next) = authorizations.next().await {
        let mut one = next?;
        if one.status != AuthorizationStatus::Pending {
            continue;
        }
        let name = one.identifier().to_string();
        // One that was answered before the program was killed is under way already.
        if let Some(mut challenge) = one.challenge(kind.clone())
            && challenge.status == ChallengeStatus::Pending
        {
            let told = challenge.set_ready().await;
            told.map_err(|e| Trouble::from(e).at(&name))?;
        }
    }
    Ok(())
}

/// Why an order has failed, as its authorizations say.
async fn reason(order: &mut Order) -> Trouble {
    let mut authorizations = order.authorizations();
    while let Some(next) = authorizations.next().await {
        let Ok(mut one) = next else { continue };
        let name = one.identifier().to_string();
        if let Ok(state) = one.refresh().await
            && let Some(problem) = state.challenges.iter().find_map(|challenge| challenge.error.clone())
        {
            let mut trouble = Trouble::from(problem).at(&name);
            trouble.kind = Kind::Refused;
            return trouble;
        }
    }
    let error = order.state().error.clone();
    match error {
        Some(problem) => problem.into(),
        None => unusable("the authority has given the order up without a reason"),
    }
}

/// The chain of a finished order: the one that leads to the preferred root, if the authority has it.
async fn chain(world: &World, account: &Account, order: &mut Order) -> Result<String, Trouble> {
    let url = order.state().certificate.clone().unwrap_or_default();
    let text = order.certificate().await?;
    let text =
        text.ok_or_else(|| Trouble::unreachable("the authority has not finished yet; it is asked again later"))?;
    let others = world.client.take_chain(&url).map_or(Vec::new(), |(_, others)| others);
    let Some(wanted) = &world.config.chain else {
        return Ok(text);
    };
    let leads = |chain: &str| cairn_config::pki::root_name(chain).as_ref() == Some(wanted);
    if leads(&text) {
        return Ok(text);
    }
    for other in others {
        // The ACME crate has no word for another chain. A signed question for an order's state is the same on the wire; what comes is
        // no order, and the HTTP client below has kept it.
        let _ = account.order(other.clone()).await;
        if let Some((chain, _)) = world.client.take_chain(&other)
            && leads(&chain)
        {
            return Ok(chain);
        }
    }
    world.say(&format!(
        "the authority has no chain that leads to `{wanted}`; its own is taken"
    ));
    Ok(text)
}

/// Keeps what was issued: first itself, then that it was.
fn receive(
    world: &World,
    of: &str,
    wanted: &Wanted,
    pending: &Pending,
    chain: &str,
    kept: &mut Kept,
) -> Result<(), Trouble> {
    let pem = format!("{}{chain}", pending.key);
    let seen = examine(&pem, &wanted.names);
    let seen = seen.map_err(|why| {
        unusable(format!(
            "the authority has issued a certificate that cannot be used: {why}"
        ))
    })?;
    world.store.keep_pem(of, &seen.pem)?;
    let now = (world.now)();
    kept.order = None;
    kept.failure = None;
    kept.failed_names.clear();
    kept.window = None;
    kept.directory.clone_from(&pending.directory);
    kept.issued = recent(now, &kept.issued);
    kept.issued.push(now);
    world.store.keep(of, kept)
}

impl World {
    fn window(&self, between: Option<(jiff::Timestamp, jiff::Timestamp)>, again: Duration) -> Window {
        // RFC 9773, 4.3.2: not more often than every minute is sensible, not less often than every day is safe.
        let again = again.clamp(Duration::from_secs(3600), Duration::from_secs(86_400));
        Window {
            between,
            ask_at: (self.now)().checked_add(again).unwrap_or(jiff::Timestamp::MAX),
        }
    }
}
