//! Where an image may come from: its registry, or mirrors of it.

use crate::errors::ImageError;
use crate::options::RegistryOptions;

/// A registry and repository that holds the image under the same digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Source {
    pub(crate) registry: String,
    pub(crate) repository: String,
}

/// The places to ask, in this order: the mirrors of the narrowest prefix that
/// has any, then the registry itself unless it is blocked.
pub(crate) fn sources(
    options: &RegistryOptions,
    registry: &str,
    repository: &str,
) -> Result<Vec<Source>, ImageError> {
    let name = format!("{registry}/{repository}");
    let rest_behind = |prefix: &str| -> Option<String> {
        let rest = name.strip_prefix(prefix)?;
        (rest.is_empty() || rest.starts_with('/')).then(|| rest.to_owned())
    };
    let longest = options
        .mirrors
        .iter()
        .filter(|mirror| rest_behind(&mirror.prefix).is_some())
        .map(|mirror| mirror.prefix.len())
        .max();
    let mut found = Vec::new();
    for mirror in &options.mirrors {
        let Some(rest) = rest_behind(&mirror.prefix) else {
            continue;
        };
        if Some(mirror.prefix.len()) != longest {
            continue;
        }
        let place = format!("{}{rest}", mirror.location);
        if let Some((registry, repository)) = place.split_once('/') {
            found.push(Source {
                registry: registry.to_owned(),
                repository: repository.to_owned(),
            });
        }
    }
    let is_blocked = |name: &str| {
        options.blocked.iter().any(|prefix| {
            name.strip_prefix(prefix.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    };
    found.push(Source {
        registry: registry.to_owned(),
        repository: repository.to_owned(),
    });
    found.retain(|source| !is_blocked(&format!("{}/{}", source.registry, source.repository)));
    if found.is_empty() {
        return Err(ImageError::RegistryBlocked {
            registry: registry.to_owned(),
        });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::RegistryMirror;

    fn options(mirrors: &[(&str, &str)], blocked: &[&str]) -> RegistryOptions {
        RegistryOptions {
            mirrors: mirrors
                .iter()
                .map(|(prefix, location)| RegistryMirror {
                    prefix: (*prefix).to_owned(),
                    location: (*location).to_owned(),
                })
                .collect(),
            blocked: blocked.iter().map(|name| (*name).to_owned()).collect(),
            ..RegistryOptions::default()
        }
    }

    fn places(options: &RegistryOptions) -> Vec<String> {
        sources(options, "r.example", "ns/app")
            .unwrap()
            .into_iter()
            .map(|source| format!("{}/{}", source.registry, source.repository))
            .collect()
    }

    #[test]
    fn mirrors_of_the_narrowest_prefix_come_first() {
        let options = options(
            &[
                ("r.example", "wide.example"),
                ("r.example/ns", "one.example:5000/copies"),
                ("r.example/ns", "two.example"),
                ("r.example/n", "wrong.example"),
            ],
            &[],
        );
        assert_eq!(
            places(&options),
            [
                "one.example:5000/copies/app",
                "two.example/app",
                "r.example/ns/app"
            ]
        );
    }

    #[test]
    fn a_blocked_registry_is_left_to_its_mirrors_or_refused() {
        let mirrored = options(&[("r.example", "m.example")], &["r.example"]);
        assert_eq!(places(&mirrored), ["m.example/ns/app"]);
        let alone = options(&[], &["r.example/ns"]);
        assert!(matches!(
            sources(&alone, "r.example", "ns/app"),
            Err(ImageError::RegistryBlocked { .. })
        ));
        assert_eq!(
            places(&options(&[], &["r.example/n"])),
            ["r.example/ns/app"]
        );
    }
}
