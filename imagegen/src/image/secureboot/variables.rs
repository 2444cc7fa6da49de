//! Firmware's variables of Secure Boot: lists of signatures (UEFI 2.10, 32.4.1), and authenticated writes of them (8.2.2), as systemd-boot, setup
//! menus and `efi-updatevar` take them from files.

use cairn_disk::Guid;
use der::Encode as _;

use super::SigningKey;
use super::pkcs7::{self, Content, asn1};
use crate::image::Error;

/// Who vouches for a list, as firmware notes it: any GUID of one's own.
pub type Owner = Guid;

/// The files of authenticated writes, in the order in which they are to be applied: from the platform key on, only signed writes are taken.
pub const FILES: [&str; 3] = ["db.auth", "KEK.auth", "PK.auth"];

/// `EFI_GLOBAL_VARIABLE`, of PK and KEK.
const GLOBAL: Guid = Guid::from_u128(0x8be4df61_93ca_11d2_aa0d_00e098032b8c);
/// `EFI_IMAGE_SECURITY_DATABASE_GUID`, of db.
const DATABASE: Guid = Guid::from_u128(0xd719b2cb_3d3a_4596_a3bc_dad00e67656f);
/// `EFI_CERT_X509_GUID`.
const X509: Guid = Guid::from_u128(0xa5c059a1_94e4_4aa7_87b5_ab155c2bf072);
/// `EFI_CERT_TYPE_PKCS7_GUID`.
const PKCS7: Guid = Guid::from_u128(0x4aafd29d_68df_49ee_8aa9_347d375665a7);
/// Non-volatile, for boot and run time, authenticated by time.
const ATTRIBUTES: u32 = 0x27;
/// `WIN_CERTIFICATE`: revision 2.0, `WIN_CERT_TYPE_EFI_GUID`.
const REVISION_AND_KIND: [u8; 4] = [0x00, 0x02, 0xf1, 0x0e];

fn length(bytes: usize) -> Result<[u8; 4], Error> {
    let bytes = u32::try_from(bytes).map_err(|_| Error::input("certificate", "it is too long"))?;
    Ok(bytes.to_le_bytes())
}

/// `EFI_SIGNATURE_LIST` with one certificate.
pub(super) fn list(certificate: &[u8], owner: Owner) -> Result<Vec<u8>, Error> {
    let mut list = X509.to_disk().to_vec();
    list.extend(length(28 + 16 + certificate.len())?);
    list.extend(length(0)?);
    list.extend(length(16 + certificate.len())?);
    list.extend(owner.to_disk());
    list.extend(certificate);
    Ok(list)
}

/// `EFI_TIME` in UTC. Firmware takes a later write only with a later time.
fn time(at: jiff::Timestamp) -> [u8; 16] {
    let at = at.to_zoned(jiff::tz::TimeZone::UTC);
    let mut time = [0; 16];
    time[..2].copy_from_slice(&at.year().unsigned_abs().to_le_bytes());
    let rest = [at.month(), at.day(), at.hour(), at.minute(), at.second()];
    time[2..7].copy_from_slice(&rest.map(i8::unsigned_abs));
    time
}

/// `EFI_VARIABLE_AUTHENTICATION_2` and its content: the write of a list to the variable `PK`, `KEK` or `db`.
pub(super) fn write(variable: &str, list: &[u8], by: &SigningKey, at: jiff::Timestamp) -> Result<Vec<u8>, Error> {
    let vendor = if variable == "db" { DATABASE } else { GLOBAL };
    let time = time(at);
    let mut signed: Vec<u8> = variable.encode_utf16().flat_map(u16::to_le_bytes).collect();
    signed.extend(vendor.to_disk());
    signed.extend(ATTRIBUTES.to_le_bytes());
    signed.extend(time);
    signed.extend(list);
    let signature = pkcs7::sign(by, Content::Detached(&signed))?.to_der().map_err(asn1)?;
    let mut write = time.to_vec();
    write.extend(length(24 + signature.len())?);
    write.extend(REVISION_AND_KIND);
    write.extend(PKCS7.to_disk());
    write.extend(signature);
    write.extend(list);
    Ok(write)
}
