//! Small blocking clients for what an appliance serves, from outside, through its forwarded ports. They judge our services, so they
//! share no code with the project.

pub mod browser;
pub mod https;
pub mod ldap;
pub mod mail;
pub mod mariadb;
pub mod totp;
