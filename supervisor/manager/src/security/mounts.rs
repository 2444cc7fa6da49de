//! A process's mounts, from `/proc/PID/mountinfo` (proc_pid_mountinfo(5)).

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Where, as the process sees it.
    pub target: String,
    /// The file system's type.
    pub kind: String,
    /// The mount's options and the file system's.
    options: Vec<String>,
}

impl Seen {
    /// Whether something can be written there.
    pub fn writable(&self) -> bool {
        !self.has("ro")
    }

    /// Whether a mount option is set.
    pub fn has(&self, option: &str) -> bool {
        self.options.iter().any(|set| set == option)
    }
}

/// Reads the file; of mounts on the same place the last, which is the one to be seen.
pub fn parse(text: &str) -> Vec<Seen> {
    let mut mounts: Vec<Seen> = Vec::new();
    for line in text.lines() {
        let Some((mount, system)) = line.split_once(" - ") else {
            continue;
        };
        let (mount, system): (Vec<&str>, Vec<&str>) = (mount.split(' ').collect(), system.split(' ').collect());
        let (Some(target), Some(options), Some(kind)) = (mount.get(4), mount.get(5), system.first()) else {
            continue;
        };
        let whole = system.get(2).copied().unwrap_or_default();
        mounts.retain(|earlier| earlier.target != *target);
        mounts.push(Seen {
            target: (*target).to_owned(),
            kind: (*kind).to_owned(),
            options: options.split(',').chain(whole.split(',')).map(str::to_owned).collect(),
        });
    }
    mounts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_writable_only_if_mount_and_file_system_are() {
        let text = "21 1 0:5 / / ro,nosuid,nodev - erofs /dev/dm-0 ro\n\
                    22 21 0:6 / /tmp rw,nosuid,nodev,noexec - tmpfs none rw,size=1k\n\
                    23 21 0:7 / /data rw - ext4 /dev/vda3 ro\n\
                    24 21 0:8 / /proc rw - proc proc rw\n\
                    25 24 0:8 /sys /proc/sys ro - proc proc rw\n";
        let writable: Vec<String> = parse(text)
            .iter()
            .filter(|mount| mount.writable())
            .map(|mount| mount.target.clone())
            .collect();
        assert_eq!(writable, ["/tmp", "/proc"]);
        assert!(parse(text)[1].has("noexec") && !parse(text)[0].has("noexec"));
    }

    #[test]
    fn of_two_mounts_on_one_place_the_upper_counts() {
        let text = "21 1 0:5 / /x rw - tmpfs a rw\n22 21 0:6 / /x ro - tmpfs b ro\n";
        assert!(!parse(text)[0].writable() && parse(text).len() == 1);
    }
}
