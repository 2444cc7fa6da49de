//! The account at the authority. Its key is on the disk before the authority knows of it, so that a program that was killed in
//! between comes back to the same account instead of making another.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use instant_acme::{Account, ExternalAccountKey, Key, NewAccount};

use crate::client::Client;
use crate::config::Config;
use crate::held::{AccountFile, Store};
use crate::trouble::Trouble;

/// The account, made if there is none yet.
pub(crate) async fn account(config: &Config, store: &Store, client: &Client) -> Result<Account, Trouble> {
    let mut file = store.account(&config.directory)?;
    let builder = || Account::builder_with_http(Box::new(client.clone()));
    let account = if file.id.is_empty() {
        let made = match &config.external_account {
            None => {
                if key_of(&file).is_err() {
                    let (_, key) = Key::generate_pkcs8()?;
                    file = AccountFile {
                        directory: config.directory.clone(),
                        key: pem(key.secret_pkcs8_der()),
                        ..AccountFile::default()
                    };
                    store.keep_account(&file)?;
                }
                let der = key_of(&file)?;
                let key = Key::from_pkcs8_der(der.as_slice().into())?;
                let pair = (key, rustls::pki_types::PrivateKeyDer::Pkcs8(der.into()));
                builder().create_from_key(pair, config.directory.clone()).await
            }
            // The ACME crate binds an external account only to a key that it makes itself. Killed between that and the next line, the
            // account is lost, and another is made.
            Some(external) => {
                let key = external_key(external)?;
                let contact: Vec<&str> = config.contact.iter().map(String::as_str).collect();
                let new = NewAccount {
                    contact: &contact,
                    terms_of_service_agreed: true,
                    only_return_existing: false,
                };
                file.contact.clone_from(&config.contact);
                builder().create(&new, config.directory.clone(), Some(&key)).await
            }
        };
        let (account, credentials) = made.map_err(|e| Trouble::from(e).at("cannot make an account"))?;
        file.directory.clone_from(&config.directory);
        file.key = pem(credentials.private_key().secret_pkcs8_der());
        account.id().clone_into(&mut file.id);
        store.keep_account(&file)?;
        account
    } else {
        let der = key_of(&file)?;
        let parts = builder().from_parts(file.id.clone(), der.as_slice().into(), config.directory.clone());
        parts.await.map_err(Trouble::from)?
    };
    if file.contact != config.contact {
        let contact: Vec<&str> = config.contact.iter().map(String::as_str).collect();
        let told = account.update_contacts(&contact).await;
        told.map_err(|e| Trouble::from(e).at("cannot tell the authority the contact"))?;
        file.contact.clone_from(&config.contact);
        store.keep_account(&file)?;
    }
    Ok(account)
}

/// The authority does not know the account any more: it is made again, with the same key.
pub(crate) fn forget(config: &Config, store: &Store) -> Result<(), Trouble> {
    let mut file = store.account(&config.directory)?;
    file.id.clear();
    file.contact.clear();
    store.keep_account(&file)
}

fn pem(der: &[u8]) -> String {
    let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    pem::encode_config(&pem::Pem::new("PRIVATE KEY", der), config)
}

fn key_of(file: &AccountFile) -> Result<Vec<u8>, Trouble> {
    let key =
        pem::parse(&file.key).map_err(|why| Trouble::refused(format!("the account's key cannot be read: {why}")))?;
    Ok(key.into_contents())
}

fn external_key(external: &crate::config::ExternalAccount) -> Result<ExternalAccountKey, Trouble> {
    let path = external.key_file.display();
    let text = std::fs::read_to_string(&external.key_file);
    let text = text.map_err(|e| Trouble::refused(format!("cannot read the external account's key {path}: {e}")))?;
    let key = BASE64_URL_SAFE_NO_PAD.decode(text.trim().trim_end_matches('='));
    let key = key.map_err(|e| Trouble::refused(format!("{path} is no key in base64url: {e}")))?;
    Ok(ExternalAccountKey::new(external.id.clone(), &key))
}
