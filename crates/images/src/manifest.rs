//! The parts of the OCI image specification that both archives and registries need.

use oci_spec::image::ImageConfiguration;

use crate::{Config, Error};

/// This machine's architecture as images name it.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The `config` object of an image configuration. An image for another machine is refused.
pub(crate) fn config_of(bytes: &[u8]) -> Result<Config, Error> {
    let bad = |problem: String| Error::BadImage { problem };
    let image: ImageConfiguration = serde_json::from_slice(bytes)
        .map_err(|error| bad(format!("its configuration cannot be read: {error}")))?;
    let wanted = architecture();
    if image.os().to_string() != "linux" || image.architecture().to_string() != wanted {
        let found = format!("{}/{}", image.os(), image.architecture());
        return Err(bad(format!(
            "it is for {found}, this machine needs linux/{wanted}"
        )));
    }
    let config = image.config().clone().unwrap_or_default();
    let list = |values: &Option<Vec<String>>| values.clone().unwrap_or_default();
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    Ok(Config {
        entrypoint: list(config.entrypoint()),
        cmd: list(config.cmd()),
        env: list(config.env()),
        user: text(config.user()),
        working_dir: text(config.working_dir()),
        stop_signal: text(config.stop_signal()),
    })
}
