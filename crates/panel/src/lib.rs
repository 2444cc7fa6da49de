//! The panel: the page by which the owner sets the appliance up and looks after it.
//!
//! It is a service like any other: in its own sandbox, without root, and it changes nothing itself. It asks the manager over
//! the control socket, and keeps only what is its own: the owner's account, sessions, the audit log.
//!
//! A request becomes a value ([`http::Request`]), [`app::App`] answers it by a value, and [`server`] alone touches the network.

mod api;
pub mod app;
mod assets;
mod bundle;
mod charts;
pub mod control;
mod diagnosis;
pub mod directory;
pub mod http;
mod importing;
mod limits;
mod network;
mod pages;
mod picture;
mod place;
mod qr;
pub mod roles;
mod samples;
pub mod secret;
pub mod server;
pub mod settings;
mod setup;
pub mod store;
pub mod tls;
mod unattended;
mod view;
pub mod webauthn;
mod words;
