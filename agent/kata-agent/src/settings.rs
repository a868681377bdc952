//! What initdata says about the key broker and the registries.

use redoubt_image_offload::TrustRoots;
use redoubt_initdata::Initdata;
use serde::Deserialize;

use crate::error::{AgentError, Result};

/// The settings of one guest.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    /// The key broker, when one is named.
    pub(crate) broker: Option<BrokerSettings>,
    /// Registries that are spoken to in plain HTTP.
    pub(crate) insecure_registries: Vec<String>,
    /// Which certificates registries may have.
    pub(crate) trust: TrustRoots,
    /// Proxy for HTTPS registries.
    pub(crate) https_proxy: Option<String>,
}

/// Where the key broker is and who it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BrokerSettings {
    pub(crate) url: String,
    pub(crate) certificate: Option<String>,
}

// Other members of these documents belong to other agents and are left alone.

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct CdhToml {
    kbc: Kbc,
    image: Image,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Kbc {
    name: Option<String>,
    url: Option<String>,
    kbs_cert: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
#[expect(
    clippy::struct_field_names,
    reason = "the names are those of the document"
)]
struct Image {
    extra_root_certificates: Vec<String>,
    registry_config: RegistryConfig,
    image_pull_proxy: Proxy,
    image_security_policy: Option<String>,
    image_security_policy_uri: Option<String>,
    sigstore_config_uri: Option<String>,
    authenticated_registry_credentials_uri: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RegistryConfig {
    registry: Vec<RegistryEntry>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RegistryEntry {
    location: String,
    insecure: bool,
    blocked: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Proxy {
    https_proxy: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct AaToml {
    token_configs: TokenConfigs,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct TokenConfigs {
    kbs: Option<KbsToken>,
}

#[derive(Debug, Deserialize)]
struct KbsToken {
    url: String,
    cert: Option<String>,
}

impl Settings {
    /// Reads `cdh.toml` and `aa.toml`; the broker of `cdh.toml` goes before the one of `aa.toml`.
    pub(crate) fn from_initdata(initdata: &Initdata) -> Result<Self> {
        let cdh: CdhToml = entry(initdata, "cdh.toml")?;
        let aa: AaToml = entry(initdata, "aa.toml")?;
        refuse_what_is_not_supported(&cdh)?;
        let (aa_url, aa_cert) = match aa.token_configs.kbs {
            Some(kbs) => (Some(kbs.url), kbs.cert),
            None => (None, None),
        };
        // A certificate that either document pins stays pinned.
        let certificate = present(cdh.kbc.kbs_cert).or(present(aa_cert));
        let broker = present(cdh.kbc.url)
            .or(present(aa_url))
            .map(|url| BrokerSettings { url, certificate });
        let insecure = cdh.image.registry_config.registry.into_iter();
        let roots = cdh.image.extra_root_certificates;
        Ok(Self {
            broker,
            insecure_registries: insecure
                .filter(|registry| registry.insecure)
                .map(|registry| registry.location)
                .collect(),
            trust: if roots.is_empty() {
                TrustRoots::Public
            } else {
                TrustRoots::PublicAnd(roots)
            },
            https_proxy: cdh.image.image_pull_proxy.https_proxy,
        })
    }
}

/// A setting without text asks for nothing.
fn present(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.trim().is_empty())
}

/// Refuses settings whose silent loss would leave the guest with less protection, or
/// fail later in a way that does not name them.
fn refuse_what_is_not_supported(cdh: &CdhToml) -> Result<()> {
    let image = &cdh.image;
    let settings = [
        ("image.image_security_policy", &image.image_security_policy),
        (
            "image.image_security_policy_uri",
            &image.image_security_policy_uri,
        ),
        ("image.sigstore_config_uri", &image.sigstore_config_uri),
        (
            "image.authenticated_registry_credentials_uri",
            &image.authenticated_registry_credentials_uri,
        ),
    ];
    let is_set = |text: &Option<String>| text.as_deref().is_some_and(|text| !text.is_empty());
    let refused = |setting| {
        Err(AgentError::SettingsUnsupported {
            entry: "cdh.toml",
            setting,
        })
    };
    if let Some((setting, _)) = settings.iter().find(|(_, text)| is_set(text)) {
        return refused(setting);
    }
    if image
        .registry_config
        .registry
        .iter()
        .any(|entry| entry.blocked)
    {
        return refused("image.registry_config.registry.blocked");
    }
    match cdh.kbc.name.as_deref() {
        None | Some("" | "cc_kbc") => Ok(()),
        Some(_) => refused("kbc.name other than cc_kbc"),
    }
}

fn entry<T: Default + for<'de> Deserialize<'de>>(
    initdata: &Initdata,
    name: &'static str,
) -> Result<T> {
    let Some(text) = initdata.entry(name) else {
        return Ok(T::default());
    };
    toml::from_str(text).map_err(|error| AgentError::Settings {
        entry: name,
        reason: error.message().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use redoubt_initdata::Algorithm;

    use super::*;

    fn initdata(entries: &[(&str, &str)]) -> Initdata {
        let entries: BTreeMap<String, String> = entries
            .iter()
            .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
            .collect();
        Initdata::build(Algorithm::Sha256, entries).unwrap()
    }

    #[test]
    fn broker_and_registries_come_from_cdh_toml() {
        let text = "[kbc]\nname='cc_kbc'\nurl='https://b'\nkbs_cert='PEM'\n\
                    [[image.registry_config.registry]]\nlocation='r:5000'\ninsecure=true\n\
                    [[image.registry_config.registry]]\nlocation='s:5000'\n";
        let settings = Settings::from_initdata(&initdata(&[("cdh.toml", text)])).unwrap();
        let broker = settings.broker.unwrap();
        assert_eq!(broker.url, "https://b");
        assert_eq!(broker.certificate.as_deref(), Some("PEM"));
        assert_eq!(settings.insecure_registries, ["r:5000"]);
    }

    #[test]
    fn aa_toml_names_the_broker_where_cdh_toml_does_not() {
        let text = "[token_configs.kbs]\nurl='http://aa'\n";
        let settings = Settings::from_initdata(&initdata(&[("aa.toml", text)])).unwrap();
        assert_eq!(settings.broker.unwrap().url, "http://aa");
        assert!(settings.insecure_registries.is_empty());
    }

    #[test]
    fn a_pinned_certificate_is_never_lost() {
        let cdh = ("cdh.toml", "[kbc]\nkbs_cert='PEM'\n");
        let aa = ("aa.toml", "[token_configs.kbs]\nurl='https://aa'\n");
        let broker = Settings::from_initdata(&initdata(&[cdh, aa]))
            .unwrap()
            .broker;
        let broker = broker.unwrap();
        assert_eq!(broker.certificate.as_deref(), Some("PEM"));
        assert_eq!(broker.url, "https://aa");
    }

    #[test]
    fn settings_that_would_be_lost_are_refused_by_name() {
        for (text, name) in [
            (
                "[image]\nimage_security_policy='{}'",
                "image_security_policy",
            ),
            (
                "[image]\nimage_security_policy_uri='kbs:///a/b/c'",
                "image_security_policy_uri",
            ),
            (
                "[image]\nsigstore_config_uri='kbs:///a/b/c'",
                "sigstore_config_uri",
            ),
            (
                "[image]\nauthenticated_registry_credentials_uri='kbs:///a/b/c'",
                "authenticated_registry_credentials_uri",
            ),
            (
                "[[image.registry_config.registry]]\nlocation='r'\nblocked=true",
                "blocked",
            ),
            ("[kbc]\nname='offline_fs_kbc'", "kbc.name"),
        ] {
            let error = Settings::from_initdata(&initdata(&[("cdh.toml", text)])).unwrap_err();
            let is_named = matches!(&error, AgentError::SettingsUnsupported { setting, .. }
                if setting.contains(name));
            assert!(is_named, "{text}: {error}");
        }
        let empty = "[image]\nimage_security_policy_uri=''";
        Settings::from_initdata(&initdata(&[("cdh.toml", empty)])).unwrap();
    }

    #[test]
    fn a_broken_entry_is_named() {
        let error = Settings::from_initdata(&initdata(&[("cdh.toml", "[kbc")])).unwrap_err();
        assert!(
            matches!(
                error,
                AgentError::Settings {
                    entry: "cdh.toml",
                    ..
                }
            ),
            "{error}"
        );
    }
}
