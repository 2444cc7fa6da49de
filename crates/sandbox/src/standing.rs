//! Networks that stand before their sandbox does: a service that is started by a connection must have an address first.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::OwnedFd;

use nix::sched::{CloneFlags, setns, unshare};

use crate::child;
use crate::netlink::{Inside, Netlink};
use crate::network::Veth;
use crate::report::Failure;

/// Makes a network namespace with the pair's inner end in it, addresses and routes set, and these sysctls. It lives as long as
/// a descriptor of it, a socket made in it or a process in it. Needs real root.
///
/// # Errors
/// The step that failed and what it was about.
pub fn make_network(veth: &Veth, sysctls: &BTreeMap<String, String>) -> Result<OwnedFd, Failure> {
    alone(|| {
        let failed = |what: &'static str| move |error: std::io::Error| Failure::new("network", what, error);
        // This one stays with the host.
        let host = Netlink::open().map_err(failed("netlink"))?;
        let bridge = bridge(veth)?;
        unshare(CloneFlags::CLONE_NEWNET).map_err(|error| failed("unshare")(error.into()))?;
        let own = "/proc/thread-self/ns/net";
        let namespace: OwnedFd = File::open(own).map_err(failed(own))?.into();
        host.make_veth(veth, bridge, Inside::Namespace(&namespace))
            .map_err(|error| Failure::new("veth", &veth.host_name, error))?;
        child::set_up_links(Some(veth))?;
        for (name, value) in sysctls {
            let path = format!("/proc/sys/{}", name.replace('.', "/"));
            std::fs::write(&path, value).map_err(|error| Failure::new("sysctl", name, error))?;
        }
        Ok(namespace)
    })
}

/// Does something in a network namespace, for example opens sockets there.
///
/// # Errors
/// The namespace cannot be entered, or what `act` says.
pub fn in_network<T: Send>(namespace: &OwnedFd, act: impl FnOnce() -> Result<T, Failure> + Send) -> Result<T, Failure> {
    alone(|| {
        setns(namespace, CloneFlags::CLONE_NEWNET)
            .map_err(|error| Failure::new("network", "setns", std::io::Error::from(error)))?;
        act()
    })
}

/// The index of the bridge that the pair's host end joins.
pub(crate) fn bridge(veth: &Veth) -> Result<Option<u32>, Failure> {
    let index = veth.bridge.as_ref().map(|name| {
        child::link_index(name).map_err(|error| Failure::new("veth", name, format!("{error}; make the bridge first")))
    });
    index.transpose()
}

/// In a thread of its own, which takes its namespace along when it ends.
fn alone<T: Send>(act: impl FnOnce() -> Result<T, Failure> + Send) -> Result<T, Failure> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("network".to_owned());
        let thread = thread
            .spawn_scoped(scope, act)
            .map_err(|error| Failure::new("network", "thread", error))?;
        thread
            .join()
            .unwrap_or_else(|_| Err(Failure::new("network", "thread", "it panicked")))
    })
}
