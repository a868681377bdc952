//! Where a configuration file is looked for.

use std::path::{Path, PathBuf};

/// Folders that hold `configuration.toml` unless another file is named.
const DEFAULT_PATHS: [&str; 3] = [
    "/etc/kata-containers/configuration.toml",
    "/usr/share/defaults/kata-containers/configuration.toml",
    "/opt/kata/share/defaults/kata-containers/configuration.toml",
];

/// Everything that can name a configuration file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigSearch {
    /// The pod's annotation [`super::CONFIG_PATH_ANNOTATION`].
    pub annotation: Option<PathBuf>,
    /// `ConfigPath` of containerd's runtime options.
    pub runtime_option: Option<PathBuf>,
    /// The environment variable `KATA_CONF_FILE`.
    pub environment: Option<PathBuf>,
}

/// One place to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The file's path.
    pub path: PathBuf,
    /// What named it.
    pub source: &'static str,
    /// The file was named for this sandbox, so that its absence is an error.
    pub required: bool,
    /// The name comes from the pod, so that the file must be the operator's.
    pub untrusted: bool,
}

impl ConfigSearch {
    /// The places to look at, first match wins.
    ///
    /// A file that was named is the only candidate: falling back to another
    /// would launch something that nobody asked for.
    pub fn candidates(&self) -> Vec<Candidate> {
        let named = [
            (
                &self.annotation,
                "annotation io.katacontainers.config_path",
                true,
            ),
            (&self.runtime_option, "ConfigPath or --config", false),
            (&self.environment, "KATA_CONF_FILE", false),
        ];
        for (path, source, untrusted) in named {
            if let Some(path) = path.as_deref().filter(|path| *path != Path::new("")) {
                return vec![Candidate {
                    path: path.to_owned(),
                    source,
                    required: true,
                    untrusted,
                }];
            }
        }
        DEFAULT_PATHS
            .iter()
            .map(|path| Candidate {
                path: PathBuf::from(path),
                source: "the default search",
                required: false,
                untrusted: false,
            })
            .collect()
    }
}

/// The order of drop-ins: alphabetical, only `.toml` files, no hidden ones.
pub(crate) fn drop_in_order(mut names: Vec<PathBuf>) -> Vec<PathBuf> {
    names.retain(|name| {
        let hidden = name
            .file_name()
            .is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        !hidden
            && name
                .extension()
                .is_some_and(|extension| extension == "toml")
    });
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(search: &ConfigSearch) -> Vec<String> {
        search
            .candidates()
            .iter()
            .map(|c| c.path.display().to_string())
            .collect()
    }

    #[test]
    fn the_annotation_goes_before_runtime_options_environment_and_defaults() {
        let mut search = ConfigSearch {
            annotation: Some("/a.toml".into()),
            runtime_option: Some("/r.toml".into()),
            environment: Some("/e.toml".into()),
        };
        assert_eq!(paths(&search), ["/a.toml"]);
        search.annotation = None;
        assert_eq!(paths(&search), ["/r.toml"]);
        search.runtime_option = Some(PathBuf::new());
        assert_eq!(paths(&search), ["/e.toml"]);
        search.environment = None;
        assert_eq!(paths(&search)[0], "/etc/kata-containers/configuration.toml");
        assert_eq!(paths(&search).len(), 3);
    }

    #[test]
    fn drop_ins_are_taken_alphabetically() {
        let names = [
            "d/50-b.toml",
            "d/.hidden.toml",
            "d/10-z.toml",
            "d/README",
            "d/50-a.toml",
        ];
        assert_eq!(
            drop_in_order(names.iter().map(PathBuf::from).collect()),
            ["d/10-z.toml", "d/50-a.toml", "d/50-b.toml"].map(PathBuf::from)
        );
    }
}
