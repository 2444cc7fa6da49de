//! Who may do what: one table of every page behind the login, with the role that it needs.

/// What somebody who is logged in may do; each may do what those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// A person of the directory: looks after the own account.
    Person,
    /// A member of the directory's group of administrators: looks after services and people.
    Administrator,
    /// The owner, who set the appliance up: may do everything.
    Owner,
}

impl Role {
    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Person => "person",
            Role::Administrator => "administrator",
            Role::Owner => "owner",
        }
    }
}

/// A page, or something that is asked for by a form.
#[derive(Debug)]
pub struct Route {
    /// `GET` or `POST`.
    pub method: &'static str,
    /// Its path; a part in braces stands for any.
    pub path: &'static str,
    /// The least role that may have it.
    pub role: Role,
}

const fn get(path: &'static str, role: Role) -> Route {
    Route {
        method: "GET",
        path,
        role,
    }
}

const fn post(path: &'static str, role: Role) -> Route {
    Route {
        method: "POST",
        path,
        role,
    }
}

use Role::{Administrator, Owner, Person};

/// Every page behind the login.
pub const ROUTES: &[Route] = &[
    get("/", Person),
    get("/account", Person),
    post("/account/password", Person),
    get("/account/totp", Person),
    post("/account/totp", Person),
    post("/account/totp/off", Person),
    post("/account/passkeys", Person),
    post("/account/passkeys/begin", Person),
    post("/account/passkeys/rename", Person),
    post("/account/passkeys/remove", Person),
    post("/account/recovery", Owner),
    get("/sessions", Person),
    post("/sessions/end", Person),
    post("/sessions/end-one", Person),
    get("/live", Administrator),
    get("/units/{unit}", Administrator),
    get("/units/{unit}/log", Administrator),
    post("/units/{unit}/start", Administrator),
    post("/units/{unit}/stop", Administrator),
    post("/units/{unit}/restart", Administrator),
    post("/units/{unit}/reload", Administrator),
    post("/units/{unit}/dump", Administrator),
    post("/units/{unit}/restore", Owner),
    post("/units/{unit}/settings", Owner),
    get("/diagnosis", Administrator),
    get("/diagnosis/support", Administrator),
    get("/people", Administrator),
    get("/people-new", Administrator),
    post("/people-new", Administrator),
    get("/people-import", Administrator),
    post("/people-import", Administrator),
    get("/people/{uid}", Administrator),
    post("/people/{uid}", Administrator),
    post("/people/{uid}/disable", Administrator),
    post("/people/{uid}/enable", Administrator),
    post("/people/{uid}/reset", Administrator),
    post("/people/{uid}/totp-off", Administrator),
    post("/people/{uid}/passkeys-off", Administrator),
    post("/people/{uid}/remove", Administrator),
    get("/groups", Administrator),
    post("/groups", Administrator),
    get("/groups/{group}", Administrator),
    post("/groups/{group}/add", Administrator),
    post("/groups/{group}/drop", Administrator),
    post("/groups/{group}/remove", Administrator),
    get("/certificates", Administrator),
    post("/certificates/renew", Administrator),
    get("/network", Administrator),
    post("/network", Owner),
    post("/network/names", Owner),
    post("/network/confirm", Owner),
    post("/network/undo", Owner),
    get("/history", Administrator),
    post("/history/rollback", Owner),
    get("/version", Administrator),
    post("/version/check", Administrator),
    post("/version/install", Owner),
    post("/version/rollback", Owner),
    post("/version/restart", Owner),
    get("/audit", Administrator),
    get("/power", Owner),
    post("/power/poweroff", Owner),
    post("/power/reboot", Owner),
    post("/power/factory-reset", Owner),
    get("/tokens", Owner),
    post("/tokens/make", Owner),
    post("/tokens/end", Owner),
    post("/store/put-back", Owner),
    post("/store/go-on", Owner),
];

/// Whether who has this role may close or open another's account, or do what can hand it over: make a code for the password, end the
/// second factor, remove the person (the name could be given anew), take away the role that protects it. An administrator's is the
/// owner's: else one administrator could keep out all others, or let in again whom the owner has shut out. So is the own one: there the
/// page of the own account asks for the password.
pub fn may_decide_on(role: Role, whose: Role) -> bool {
    match role {
        Role::Owner => true,
        Role::Administrator => whose == Role::Person,
        Role::Person => false,
    }
}

/// The menu: path, the key of its word, and the role from which it is shown.
pub(crate) const MENU: &[(&str, &str, Role)] = &[
    ("/", "overview", Administrator),
    ("/people", "people", Administrator),
    ("/groups", "groups", Administrator),
    ("/diagnosis", "diagnosis", Administrator),
    ("/network", "network", Administrator),
    ("/certificates", "certificates", Administrator),
    ("/version", "version", Administrator),
    ("/history", "history", Administrator),
    ("/audit", "audit", Administrator),
    ("/tokens", "tokens", Owner),
    ("/account", "account", Person),
    ("/sessions", "sessions", Person),
    ("/power", "power", Owner),
];

/// The parts in braces, if a path is of this form.
pub(crate) fn matches(form: &str, parts: &[&str]) -> bool {
    let own: Vec<&str> = form.split('/').filter(|part| !part.is_empty()).collect();
    let same = |(own, part): (&&str, &&str)| own.starts_with('{') || own == part;
    own.len() == parts.len() && own.iter().zip(parts).all(same)
}

/// The role that a page needs; `None` if there is no such page.
pub(crate) fn needed(get: bool, parts: &[&str]) -> Option<Role> {
    let method = if get { "GET" } else { "POST" };
    let mut all = ROUTES
        .iter()
        .filter(|route| route.method == method && matches(route.path, parts));
    all.next().map(|route| route.role)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_routes_are_for_the_same_request() {
        for route in ROUTES {
            let parts: Vec<&str> = route.path.split('/').filter(|part| !part.is_empty()).collect();
            let same = ROUTES
                .iter()
                .filter(|other| other.method == route.method && matches(other.path, &parts));
            assert_eq!(same.count(), 1, "{} {}", route.method, route.path);
        }
    }

    #[test]
    fn an_administrators_account_is_the_owners_to_decide_on() {
        let all = [Person, Administrator, Owner];
        let may = |role| all.map(|whose| may_decide_on(role, whose));
        assert_eq!(may(Person), [false, false, false]);
        assert_eq!(may(Administrator), [true, false, false]);
        assert_eq!(may(Owner), [true, true, true]);
    }

    #[test]
    fn the_menu_leads_nobody_where_they_may_not_go() {
        for (path, _, role) in MENU {
            let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
            assert!(needed(true, &parts).unwrap() <= *role, "{path}");
        }
    }
}
