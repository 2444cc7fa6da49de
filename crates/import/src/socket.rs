//! The socket and the path unit of the same name: systemd.socket(5), systemd.path(5). A unit of Cairn is started by neither, so that each
//! line becomes a note.

use crate::job::{Job, Part};
use crate::values::boolean;

/// What a socket can listen on.
const LISTEN: [&str; 3] = ["ListenStream", "ListenDatagram", "ListenSequentialPacket"];

pub(crate) fn read(job: &mut Job) {
    for key in LISTEN {
        for (id, value) in job.list_of(Part::Socket, key) {
            let value = job.expand(id, &value);
            let way = match value.rsplit(':').next().and_then(|port| port.parse::<u16>().ok()) {
                Some(port) if !value.starts_with("vsock:") => {
                    format!(
                        "on port {port}, which [[network.publish]] opens to the outside and `provides` to other units"
                    )
                }
                _ if value.starts_with("/run/") || value.starts_with("/var/run/") => {
                    format!("on `{value}`, in a folder of [runtime], which `provides` shares with other units")
                }
                _ => format!("where it can, since `{value}` is no port and no socket in a folder of [runtime]"),
            };
            job.decide(
                id,
                &format!(
                    "no connection starts a unit and none is handed over to it: have the service listen itself, {way}"
                ),
            );
        }
    }
    if let Some((id, value)) = job.last_of(Part::Socket, "Accept") {
        match boolean(&value) {
            Some(false) => job.covered(id),
            _ => job.decide(
                id,
                "a unit is not started once for each connection: it needs a service that stays and accepts them",
            ),
        }
    }
    for key in [
        "PathExists",
        "PathExistsGlob",
        "PathChanged",
        "PathModified",
        "DirectoryNotEmpty",
    ] {
        for (id, value) in job.list_of(Part::Path, key) {
            job.decide(
                id,
                &format!("`{value}` does not start a unit, which therefore starts with the appliance: have it look by a [timer], or stay and watch"),
            );
        }
    }
}
