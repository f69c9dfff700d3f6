//! The public authority in the settings file: `acme`.

use std::path::{Path, PathBuf};

use authority::acme::{Challenge, Settings};
use serde::Deserialize;

/// Let's Encrypt.
const DIRECTORY: &str = "https://acme-v02.api.letsencrypt.org/directory";

/// As written.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Acme {
    directory: Option<String>,
    email: Option<String>,
    #[serde(default)]
    accept_terms: bool,
    challenge: Option<Kind>,
    /// A file in PEM form.
    trust: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
enum Kind {
    #[serde(rename = "http-01")]
    Http01,
    #[serde(rename = "tls-alpn-01")]
    TlsAlpn01,
}

impl Acme {
    /// What cannot be used is added to `mistakes`.
    pub(super) fn resolve(self, data_dir: &Path, mistakes: &mut Vec<String>) -> Option<Settings> {
        let before = mistakes.len();
        let directory = self.directory.unwrap_or_else(|| DIRECTORY.to_owned());
        if !directory.starts_with("https://") {
            mistakes.push(format!(
                "acme.directory: {directory:?} is not an https:// URL"
            ));
        }
        if !self.accept_terms {
            mistakes.push(format!(
                "acme.accept-terms: read the terms of service of {directory} and write true"
            ));
        }
        if let Some(email) = self.email.as_ref().filter(|email| !email.contains('@')) {
            mistakes.push(format!("acme.email: {email:?} is no address"));
        }
        if let Some(trust) = self.trust.as_ref().filter(|path| !path.is_file()) {
            mistakes.push(format!("acme.trust: {} is not a file", trust.display()));
        }
        let challenge = match self.challenge {
            None | Some(Kind::Http01) => Challenge::Http01,
            Some(Kind::TlsAlpn01) => Challenge::TlsAlpn01,
        };
        (mistakes.len() == before).then(|| Settings {
            directory,
            email: self.email,
            challenge,
            trust: self.trust,
            dir: data_dir.join("acme"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(text: &str) -> Result<Settings, String> {
        let acme: Acme = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
        let mut mistakes = Vec::new();
        let settings = acme.resolve(Path::new("/data"), &mut mistakes);
        settings.ok_or_else(|| mistakes.join(", "))
    }

    #[test]
    fn lets_encrypt_over_http_is_asked_unless_the_file_says_otherwise() {
        let settings = resolved("accept-terms: true").expect("good");
        assert_eq!(settings.directory, DIRECTORY);
        assert_eq!(settings.challenge, Challenge::Http01);
        assert_eq!(settings.dir, Path::new("/data/acme"));
        let other = "{accept-terms: true, challenge: tls-alpn-01, directory: 'https://ca/d'}";
        let settings = resolved(other).expect("good");
        assert_eq!(settings.challenge, Challenge::TlsAlpn01);
        assert_eq!(settings.directory, "https://ca/d");
    }

    #[test]
    fn what_cannot_be_used_is_told_with_its_key() {
        for (text, wanted) in [
            ("{}", "acme.accept-terms"),
            (
                "{accept-terms: true, directory: 'http://ca'}",
                "acme.directory",
            ),
            ("{accept-terms: true, email: me}", "acme.email"),
            ("{accept-terms: true, trust: /none}", "acme.trust"),
            ("{accept-terms: true, challenge: dns-01}", "dns-01"),
        ] {
            let why = resolved(text).expect_err(text);
            assert!(why.contains(wanted), "{text}: {why}");
        }
    }
}
