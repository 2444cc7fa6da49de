//! The outside network in force: DHCP clients, addresses and name servers follow the owner's choices, the devices and the leases. This is
//! the one place that applies them.

use std::collections::BTreeMap;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};

use tokio::task::AbortHandle;

use crate::beside::Purpose;
use crate::clock::now_ms;
use crate::net_change::Pending;
use crate::netlink::Link;
use crate::network::{self, News};
use crate::outside::{self, Plan, Step};
use crate::supervisor::{Msg, Supervisor};
use crate::{firewall, host_plan};

/// When what could not be done is tried again, in milliseconds.
const RETRY_MS: u64 = 5_000;

/// How long a device may take to come before it is said that it is not there, in milliseconds: drivers are loaded beside the manager.
const ABSENT_MS: u64 = 20_000;

/// What the manager holds of the outside network beside what is saved.
#[derive(Debug, Default)]
pub(crate) struct Outside {
    /// The devices, once they are known.
    pub(crate) links: Option<Vec<Link>>,
    /// The DHCP clients that run, by the number of their device.
    clients: BTreeMap<u32, (Link, AbortHandle)>,
    /// What was applied last.
    pub(crate) plan: Plan,
    /// What could not be done.
    pub(crate) problems: Vec<String>,
    /// When it is to be applied again, in milliseconds.
    pub(crate) due: Option<u64>,
    /// For how long an answer may still be under way over the network of before, in milliseconds.
    pub(crate) grace_ms: u64,
    /// A change that waits to be confirmed.
    pub(crate) pending: Option<Pending>,
    news: Option<tokio::sync::mpsc::UnboundedSender<News>>,
}

impl Outside {
    /// When something here is to be looked at, in milliseconds.
    pub(crate) fn next(&self) -> Option<u64> {
        let pending = self.pending.as_ref().map(|pending| pending.until_ms);
        self.due.into_iter().chain(pending).min()
    }
}

impl Supervisor {
    /// The outside address, or nothing.
    pub(crate) fn address(&self) -> String {
        // A manager that has only just taken over knows no devices yet.
        let leased = || self.saved.leases.first().map(|(_, lease)| lease.address.into());
        let address = self.outside.plan.address().or_else(leased);
        address.map(|address| address.to_string()).unwrap_or_default()
    }

    pub(crate) fn start_network(&mut self) {
        if !self.config.network {
            return;
        }
        let host = self.manifest.name.as_str().to_owned();
        if !self.saved.firewall {
            // A manager before this one may have died while it was set up; once more does no harm.
            self.saved
                .beside
                .retain(|b| b.purpose != Purpose::Host("firewall".into()));
            let _ = rustix::system::sethostname(host.as_bytes());
            match network::prepare() {
                Ok(()) => {
                    let rules = firewall::ruleset(&self.manifest);
                    self.spawn_host("firewall", &host_plan::firewall(&self.config.at("/"), &rules));
                }
                Err(e) => self.console.say(&format!("{e}; nothing is reachable from outside")),
            }
        }
        // Units that start before there is an address see the file that follows.
        if !self.config.resolv().exists() {
            self.write_resolv("");
        }
        let (send, to) = (self.send.clone(), tokio::sync::mpsc::unbounded_channel());
        let (news, mut told) = to;
        self.outside.news = Some(news.clone());
        tokio::spawn(network::watch(news));
        tokio::spawn(async move {
            while let Some(news) = told.recv().await {
                let _ = send.send(Msg::Net(news));
            }
        });
    }

    pub(crate) fn network_news(&mut self, news: News) {
        // What a client said before it was stopped counts no more.
        let asks = |outside: &Outside, link: &Link| outside.clients.get(&link.index).is_some_and(|(of, _)| of == link);
        match news {
            News::Problem(what) => self.console.say(&format!("Network: {what}")),
            News::Links(links) => {
                self.outside.links = Some(links);
                self.settle_network();
            }
            News::Leased(link, lease) if asks(&self.outside, &link) => {
                self.saved.leases.retain(|(name, _)| *name != link.name);
                self.saved.leases.push((link.name, lease));
                self.saved.leases.sort_by(|a, b| a.0.cmp(&b.0));
                self.settle_network();
            }
            News::Lost(link) if asks(&self.outside, &link) => {
                self.saved.leases.retain(|(name, _)| *name != link.name);
                self.console
                    .say(&format!("Network: the address of {} is no longer ours", link.name));
                self.settle_network();
            }
            News::Leased(..) | News::Lost(..) => {}
        }
    }

    /// The owner's choices for the network are others.
    pub(crate) fn network_chosen(&mut self) {
        let after = now_ms() + self.outside.grace_ms;
        self.outside.due = Some(self.outside.due.unwrap_or(after).min(after));
    }

    /// Goes on with the network: what is due is done.
    pub(crate) fn follow_network(&mut self) {
        let now = now_ms();
        if self.outside.due.is_some_and(|due| due <= now) {
            self.outside.due = None;
            self.settle_network();
        }
        self.judge_pending(now);
    }

    /// Makes the outside network what it is to be, touching only what differs.
    fn settle_network(&mut self) {
        let Some(links) = self.outside.links.clone().filter(|_| self.config.network) else {
            return;
        };
        let choices = &self.site.network;
        let planned = |saved: &crate::saved::Saved| outside::plan(choices, &links, &saved.leases, &saved.mtus);
        let mut plan = planned(&self.saved);
        let asks = |plan: &Plan, name: &str| plan.devices.get(name).is_some_and(|device| device.dhcp);
        let host = self.manifest.name.as_str().to_owned();
        let stale = |(of, _): &(Link, AbortHandle)| !links.contains(of) || !asks(&plan, &of.name);
        let stopped: Vec<u32> = self
            .outside
            .clients
            .iter()
            .filter(|(_, c)| stale(c))
            .map(|(i, _)| *i)
            .collect();
        for index in stopped {
            if let Some((link, client)) = self.outside.clients.remove(&index) {
                client.abort();
                if !links.contains(&link) {
                    // What comes under this name later may be plugged in elsewhere.
                    self.saved.leases.retain(|(name, _)| *name != link.name);
                }
                let lease = self.saved.leases.iter().find(|(name, _)| *name == link.name);
                if let Some((_, lease)) = lease.filter(|_| links.contains(&link)) {
                    network::release(&link, &host, lease);
                }
            }
        }
        self.saved.leases.retain(|(name, _)| asks(&plan, name));
        if let Ok(have) = outside::look(&self.config, &plan) {
            for have in have {
                let name = &have.link.name;
                if plan.devices.get(name).is_some_and(|device| device.mtu.is_some()) {
                    self.saved.mtus.entry(name.clone()).or_insert(have.link.mtu);
                }
            }
        }
        plan = planned(&self.saved);
        // A successor knows what these addresses are.
        self.save();
        let (done, problems) = outside::apply(&self.config, &plan);
        self.tell_steps(&plan, &done, problems);
        for link in links.iter().filter(|link| asks(&plan, &link.name)) {
            if let Some(news) = self
                .outside
                .news
                .clone()
                .filter(|_| !self.outside.clients.contains_key(&link.index))
            {
                let before = self.saved.leases.iter().find(|(name, _)| *name == link.name);
                let before = before.map(|(_, lease)| lease.clone());
                let task = tokio::spawn(network::client(link.clone(), host.clone(), before, news));
                self.outside
                    .clients
                    .insert(link.index, (link.clone(), task.abort_handle()));
            }
        }
        let resolv = plan.resolv();
        let other = std::fs::read_to_string(self.config.resolv()).map_or(true, |text| text != resolv);
        if other {
            self.write_resolv(&resolv);
        }
        let before = std::mem::replace(&mut self.outside.plan, plan);
        if other || !done.is_empty() || before.address() != self.outside.plan.address() {
            self.render_again();
        }
    }

    /// Says what has changed, once.
    fn tell_steps(&mut self, plan: &Plan, done: &[(Step, String)], problems: Vec<String>) {
        for (step, name) in done {
            match step {
                Step::Give(own) => {
                    let fixed = self.saved.leases.iter().all(|(_, lease)| own.address != lease.address);
                    let how = if fixed { ", as chosen" } else { "" };
                    self.console.say(&format!("Network: {name} has {}{how}", own.address));
                }
                Step::Take(own) => self
                    .console
                    .say(&format!("Network: {name} has {} no more", own.address)),
                Step::Down => self.console.say(&format!("Network: {name} is off, as chosen")),
                _ => {}
            }
        }
        for problem in &problems {
            if !self.outside.problems.contains(problem) {
                self.console.say(&format!("Network: {problem}; this is tried again"));
            }
        }
        let early = now_ms() < self.started + ABSENT_MS && !plan.absent.is_empty();
        if early {
            self.outside.due = Some(self.started + ABSENT_MS);
        }
        let absent: &[String] = if early { &[] } else { &plan.absent };
        for name in absent {
            if !self.saved.absent.contains(name) {
                let what = format!("Network: there is no device {name}; it is set up when it comes");
                self.console.say(&what);
            }
        }
        if !problems.is_empty() {
            let again = now_ms() + RETRY_MS;
            self.outside.due = Some(self.outside.due.unwrap_or(again).min(again));
        }
        self.outside.problems = problems;
        self.saved.absent.retain(|name| plan.absent.contains(name));
        self.saved.absent.extend(absent.iter().cloned());
    }

    /// Writes the file of name servers. Running units see it by its inode, so that stays: what is shorter is cut after it is written.
    fn write_resolv(&mut self, text: &str) {
        let path = self.config.resolv();
        let put = || -> std::io::Result<()> {
            let open = std::fs::OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path);
            let file = open?;
            file.write_all_at(text.as_bytes(), 0)?;
            file.set_len(text.len() as u64)?;
            // Units read it as somebody else.
            file.set_permissions(std::fs::Permissions::from_mode(0o644))
        };
        if let Err(e) = put() {
            self.console.say(&format!("cannot write {}: {e}", path.display()));
        }
    }
}
