//! The factory reset: the owner's data goes, the installed version stays.

use cairn_api::Accepted;
use cairn_config::write_atomically;
use cairn_init::protocol::FACTORY_RESET;

use crate::control::Answered;
use crate::supervisor::Supervisor;

impl Supervisor {
    /// Leaves the mark by which the next start makes the data partition anew, and restarts. Once the mark is on the disk, it happens whatever
    /// becomes of this manager or of the power.
    pub(crate) fn factory_reset(&mut self, name: &str) -> Answered {
        let own = self.manifest.name.as_str();
        if name != own {
            let why = format!("nothing was removed: a factory reset needs this appliance's name, {own}");
            return Answered::error(409, &why);
        }
        if self.saved.power.is_some() {
            return Answered::error(409, "the appliance is going down");
        }
        let mark = self.config.at("/data").join(FACTORY_RESET);
        if let Err(error) = write_atomically(&mark, b"", 0o600) {
            return Answered::error(500, &format!("nothing was removed: {error}"));
        }
        self.console
            .say("Factory reset: the next start removes all data and begins anew");
        self.go_down("reboot");
        Answered::of(202, &Accepted::default())
    }
}
