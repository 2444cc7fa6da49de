//! `cairn-acme`: certificates from an authority that speaks ACME.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use cairn_acme::{Config, Store, Trouble, World, plan, revoke, run, trusted};
use cairn_config::Real;
use clap::{Parser, Subcommand};
use jiff::Timestamp;
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};

/// Gets certificates from an authority that speaks ACME, and keeps them renewed.
#[derive(Parser)]
#[command(version)]
struct Cli {
    /// The configuration file.
    #[arg(long, global = true, default_value = "/etc/cairn-acme/config.toml")]
    config: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Get what is wanted and renew what is due, for ever.
    Run,
    /// Print what would be done next, and what went wrong last.
    Plan,
    /// Have the authority revoke a certificate; another is ordered in its place if it is still wanted.
    Revoke {
        /// Its name in the configuration.
        name: String,
        /// Others may have its key.
        #[arg(long)]
        compromised: bool,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match work(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Trouble { why, .. }) => {
            eprintln!("cairn-acme: {why}");
            ExitCode::FAILURE
        }
    }
}

fn read(cli: &Cli) -> Result<Config, Trouble> {
    let shown = cli.config.display();
    let text =
        std::fs::read_to_string(&cli.config).map_err(|e| Trouble::refused(format!("cannot read {shown}: {e}")))?;
    Config::parse(&text).map_err(|why| Trouble::refused(format!("{shown}: {why}")))
}

async fn open(config: &Config) -> Result<Arc<World>, Trouble> {
    let roots = trusted(config.trust.as_deref()).map_err(Trouble::refused)?;
    let world = World::new(config.clone(), Arc::new(Real), roots, Timestamp::now).await?;
    Ok(Arc::new(world))
}

/// Keeps certificates, and begins anew with what the file says now at every SIGHUP: what had failed is tried again then.
async fn serve(cli: &Cli, mut config: Config) -> Result<(), Trouble> {
    let hangup = signal(SignalKind::hangup());
    let mut hangup = hangup.map_err(|e| Trouble::refused(format!("cannot take signals: {e}")))?;
    loop {
        let world = open(&config).await?;
        let _ = sd_notify::notify(&[NotifyState::Ready]);
        tokio::select! {
            ended = run(world.clone()) => return ended,
            _ = hangup.recv() => {}
        }
        if let Ok(now) = NotifyState::monotonic_usec_now() {
            let _ = sd_notify::notify(&[NotifyState::Reloading, now]);
        }
        let store = world.store.clone();
        world.close().await?;
        store.retry(Timestamp::now())?;
        match read(cli) {
            Ok(other) => config = other,
            Err(trouble) => println!("<3>{trouble}; what held before goes on holding"),
        }
    }
}

fn work(cli: &Cli) -> Result<(), Trouble> {
    let mut config = read(cli)?;
    if let Command::Plan = cli.command {
        let held = Store::open(config.state.clone(), Arc::new(Real))?.read()?;
        for step in plan(Timestamp::now(), &config, &held) {
            println!("{step}");
            if let Some(failure) = held.kept.get(step.of()).and_then(|kept| kept.failure.as_ref()) {
                println!(
                    "  failed {} times, last at {}: {}",
                    failure.count, failure.at, failure.why
                );
            }
        }
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| Trouble::refused(format!("cannot start: {e}")))?;
    runtime.block_on(async {
        if let Command::Revoke { name, compromised } = &cli.command {
            // The running program has the addresses.
            (config.http, config.tls_alpn) = (None, None);
            let world = open(&config).await?;
            revoke(&world, name, *compromised).await?;
            println!("{name} is revoked.");
            return Ok(());
        }
        serve(cli, config).await
    })
}
