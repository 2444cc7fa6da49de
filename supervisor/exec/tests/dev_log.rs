//! A socket of the host at `/dev/log` of a sandbox: what syslog(3) sends arrives, and with it who sent it.

mod common;
use common::{root, run, script};

use std::io::IoSliceMut;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;

use cairn_sandbox::{Mount, User};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, UnixCredentials, recvmsg, setsockopt, sockopt};

#[test]
fn what_is_sent_to_dev_log_arrives_with_the_ids_of_the_sandbox_and_dev_stays_read_only() {
    if !root("what_is_sent_to_dev_log_arrives_with_the_ids_of_the_sandbox_and_dev_stays_read_only") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let socket = UnixDatagram::bind(&path).unwrap();
    setsockopt(&socket, sockopt::PassCred, &true).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
    let mut plan = script("logger -p daemon.err -t probe said; touch /dev/x 2>/dev/null || echo read-only");
    plan.user = User {
        uid: 33,
        gid: 34,
        groups: Vec::new(),
    };
    plan.mounts.push(Mount::Bind {
        source: path,
        target: "/dev/log".into(),
        read_only: false,
        idmapped: false,
        recursive: false,
        exec: false,
        suid: false,
    });
    assert_eq!(run(&plan).ok(), "read-only");
    let mut buffer = [0; 1000];
    let mut space = nix::cmsg_space!(UnixCredentials);
    let flags = MsgFlags::MSG_DONTWAIT;
    let mut parts = [IoSliceMut::new(&mut buffer)];
    let received = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut space), flags).unwrap();
    let senders = received.cmsgs().unwrap().filter_map(|message| match message {
        ControlMessageOwned::ScmCredentials(sender) => Some((sender.uid(), sender.gid())),
        _ => None,
    });
    assert_eq!(senders.collect::<Vec<_>>(), [(900_033, 900_034)]);
    let text = String::from_utf8(received.iovs().flatten().copied().collect()).unwrap();
    assert!(text.starts_with("<27>") && text.ends_with("probe: said"), "{text}");
}
