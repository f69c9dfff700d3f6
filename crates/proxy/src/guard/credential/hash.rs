//! Hashes of passwords, as `htpasswd` and `crypt` write them: bcrypt, SHA-crypt (`$5$`, `$6$`),
//! apr1, SHA-1, and `{PLAIN}`.
//!
//! What is of no kind that we know matches no password.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest as _, Md5};
use routing::model::Secret;
use sha_crypt::{PasswordVerifier as _, ShaCrypt};

/// Whether a password costs more time than a request may.
pub(super) fn is_slow(hash: &str) -> bool {
    is_bcrypt(hash) || is_sha_crypt(hash) || hash.starts_with(APR1)
}

const APR1: &str = "$apr1$";

fn is_bcrypt(hash: &str) -> bool {
    ["$2a$", "$2b$", "$2y$"]
        .iter()
        .any(|kind| hash.starts_with(kind))
}

fn is_sha_crypt(hash: &str) -> bool {
    hash.starts_with("$5$") || hash.starts_with("$6$")
}

/// Whether a password has this hash.
pub(super) fn verify(hash: &str, password: &str) -> bool {
    let equal = |a: &[u8], b: &[u8]| verify_slices_are_equal(a, b).is_ok();
    if let Some(plain) = hash.strip_prefix("{PLAIN}") {
        return equal(plain.as_bytes(), password.as_bytes());
    }
    if let Some(sha) = hash.strip_prefix("{SHA}") {
        let own = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, password.as_bytes());
        return equal(sha.as_bytes(), STANDARD.encode(own.as_ref()).as_bytes());
    }
    if let Some((salt, _)) = hash
        .strip_prefix(APR1)
        .and_then(|rest| rest.split_once('$'))
    {
        let own = apr1(password.as_bytes(), salt.as_bytes());
        return equal(hash.as_bytes(), format!("{APR1}{salt}${own}").as_bytes());
    }
    if is_sha_crypt(hash) {
        // One with too many rounds is none that we know.
        return Secret(hash.into()).is_password_hash()
            && ShaCrypt::default()
                .verify_password(password.as_bytes(), hash)
                .is_ok();
    }
    is_bcrypt(hash) && bcrypt::verify(password, hash).unwrap_or(false)
}

/// Apache's variant of the MD5-based crypt.
fn apr1(password: &[u8], salt: &[u8]) -> String {
    let salt = &salt[..salt.len().min(8)];
    let mut alternate = Md5::new();
    [password, salt, password]
        .iter()
        .for_each(|part| alternate.update(part));
    let alternate = alternate.finalize();
    let mut first = Md5::new();
    [password, APR1.as_bytes(), salt]
        .iter()
        .for_each(|part| first.update(part));
    for at in (0..password.len()).step_by(16) {
        first.update(&alternate[..(password.len() - at).min(16)]);
    }
    let mut bits = password.len();
    while bits > 0 {
        // A zero byte, or the first of the password.
        first.update(if bits & 1 == 1 { &[0] } else { &password[..1] });
        bits >>= 1;
    }
    let mut sum = first.finalize();
    for round in 0..1000 {
        let mut next = Md5::new();
        next.update(if round % 2 == 1 { password } else { &sum[..] });
        if round % 3 != 0 {
            next.update(salt);
        }
        if round % 7 != 0 {
            next.update(password);
        }
        next.update(if round % 2 == 1 { &sum[..] } else { password });
        sum = next.finalize();
    }
    encode(&sum)
}

/// The order and the alphabet of `crypt`.
fn encode(sum: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    const ORDER: [[usize; 3]; 5] = [[0, 6, 12], [1, 7, 13], [2, 8, 14], [3, 9, 15], [4, 10, 5]];
    let mut out = String::with_capacity(22);
    let mut put = |mut value: usize, letters: usize| {
        for _ in 0..letters {
            out.push(char::from(LETTERS[value & 0x3f]));
            value >>= 6;
        }
    };
    for [high, middle, low] in ORDER {
        let byte = |at: usize| usize::from(sum[at]);
        put(byte(high) << 16 | byte(middle) << 8 | byte(low), 4);
    }
    put(usize::from(sum[11]), 2);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_known_by_its_hash_of_every_kind() {
        // Apache's documentation ("Password Formats") has these for `myPassword`.
        for hash in [
            "{SHA}VBPuJHI7uixaa6LQGWx4s+5GKNE=",
            "$apr1$r31.....$HqJZimcKQFAMYayBlzkrA/",
            "$2y$05$c4WoMPo3SXsafkva.HHa6uXQZWr7oboPiC2bT/r7q1BB8I2s0BRqC",
            "{PLAIN}myPassword",
            // These are what OpenSSL and glibc make of it.
            "$5$r31salt$PrOeD5tDC02mAuMNFxUpddo3wge3Ge8LDg9ScsTwdk6",
            "$6$r31salt$IREPDRFM1AA/UPGABpDrkF.fpWj4zbU.Iixsu8dIR5crCetYjbpLZNP5ns9E529mlaM1jfN1S4dT7DcPCBh7o/",
            "$6$rounds=10000$saltsalt$UqFSOOW.ESTZ0hJdPjeF/me1bDhNSm7ivL8y3s/msX7CgJS5a.vHVo4MPc849.c6H0C0fC6cR1g0cTEwLBKuE/",
        ] {
            assert!(verify(hash, "myPassword"), "{hash}");
            for wrong in ["", "myPassword ", "mypassword", hash] {
                assert!(!verify(hash, wrong), "{hash} {wrong:?}");
            }
        }
    }

    #[test]
    fn what_is_no_hash_matches_nothing() {
        for hash in [
            "",
            "myPassword",
            "$6$salt$hash",
            "$5$",
            "$6$rounds=999999999$saltsalt$UqFSOOW.ESTZ0hJdPjeF/me1bDhNSm7ivL8y3s/msX7CgJS5a.vHVo4MPc849.c6H0C0fC6cR1g0cTEwLBKuE/",
            "$6$rounds=x$saltsalt$UqFS",
            "$apr1$",
            "$2y$x",
            "{SSHA}x",
            "$2y$99$",
        ] {
            assert!(!verify(hash, "myPassword"), "{hash}");
            assert!(!verify(hash, ""), "{hash}");
        }
    }
}
