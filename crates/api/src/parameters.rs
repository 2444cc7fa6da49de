//! The values in routes' queries.

/// A value in a route's query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parameter {
    /// Its name.
    pub name: &'static str,
    /// What it means.
    pub meaning: &'static str,
}

pub(crate) const LOGS: &[Parameter] = &[
    Parameter {
        name: "unit",
        meaning: "A unit; may be given several times. Left out: all.",
    },
    Parameter {
        name: "since",
        meaning: "The first time, as people write it.",
    },
    Parameter {
        name: "until",
        meaning: "The last time.",
    },
    Parameter {
        name: "grep",
        meaning: "A regular expression that a message must match.",
    },
    Parameter {
        name: "priority",
        meaning: "The least severe priority, `emerg` to `debug` or 0 to 7.",
    },
    Parameter {
        name: "lines",
        meaning: "Only so many of the last lines.",
    },
    Parameter {
        name: "boot",
        meaning: "1: only of this boot.",
    },
    Parameter {
        name: "follow",
        meaning: "1: go on with new lines as they come.",
    },
    Parameter {
        name: "output",
        meaning: "`short`, `json` or `export` (read by systemd's journal tools).",
    },
    Parameter {
        name: "colour",
        meaning: "1: `short` lines have colours of a terminal by their priority.",
    },
];

/// What a factory reset asks, so that none happens by mistake.
pub(crate) const FACTORY_RESET: &[Parameter] = &[Parameter {
    name: "name",
    meaning: "The appliance's host name; another one is refused.",
}];

/// Which versions of the owner's choices are compared.
pub(crate) const DIFF: &[Parameter] = &[
    Parameter {
        name: "from",
        meaning: "A version's number; left out: the newest that differs.",
    },
    Parameter {
        name: "to",
        meaning: "A version's number; left out: what is in force.",
    },
];

/// Which version of the owner's choices comes back.
pub(crate) const ROLLBACK: &[Parameter] = &[Parameter {
    name: "to",
    meaning: "The version's number.",
}];

/// How long a change waits to be confirmed.
pub(crate) const CONFIRM: &[Parameter] = &[Parameter {
    name: "within",
    meaning: "How long it waits to be confirmed, like `90s` or `10m`, from `1s` to `1h`; `3m` if left out.",
}];

/// What is installed, and in spite of what.
pub(crate) const INSTALL: &[Parameter] = &[
    FROM[0],
    Parameter {
        name: "now",
        meaning: "1: also if it is not this appliance's turn, or the publisher has paused the version.",
    },
    Parameter {
        name: "force",
        meaning: "1: also while upgrades are held.",
    },
];

/// What may be lost by going back.
pub(crate) const LOSE_DATA: &[Parameter] = &[Parameter {
    name: "lose-data",
    meaning: "1: also if data that was written since the upgrade is lost.",
}];

/// For how long nothing is installed.
pub(crate) const HOLD: &[Parameter] = &[
    Parameter {
        name: "until",
        meaning: "A day or a time as in RFC 3339; left out, with `for`: until it is taken back.",
    },
    Parameter {
        name: "for",
        meaning: "A duration from now, as `14d`.",
    },
    Parameter {
        name: "reason",
        meaning: "Why; told to whoever would install.",
    },
];

/// Where a later version is read from.
pub(crate) const FROM: &[Parameter] = &[Parameter {
    name: "from",
    meaning: "A repository's address, or the absolute path of a bundle; left out: the repository that the appliance was built with.",
}];

pub(crate) const RESTORE: &[Parameter] = &[Parameter {
    name: "dump",
    meaning: "The dump's name; `before`: what there was before the last restore.",
}];
