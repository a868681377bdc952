//! Names of images in policies and signatures.

use crate::reference::ImageReference;

/// The name under which an image is pulled: `host/repository`, and the tag
/// when that is all that names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageIdentity {
    repository: String,
    tag: Option<String>,
}

/// The name of Docker's own registry in policies, whatever its host is.
const DOCKER_HUB: &str = "docker.io";
const DOCKER_HUB_HOST: &str = "index.docker.io";

impl ImageIdentity {
    /// The identity of a pinned image: its tag, if any, is not looked at.
    pub fn pinned(registry: &str, repository: &str) -> Self {
        let host = if registry == DOCKER_HUB_HOST {
            DOCKER_HUB
        } else {
            registry
        };
        Self {
            repository: format!("{host}/{repository}"),
            tag: None,
        }
    }

    /// The identity of an image that a tag names.
    pub fn tagged(registry: &str, repository: &str, tag: &str) -> Self {
        Self {
            tag: Some(tag.to_owned()),
            ..Self::pinned(registry, repository)
        }
    }

    pub(crate) fn of(reference: &ImageReference) -> Self {
        Self::pinned(reference.registry(), reference.repository())
    }

    /// The name as messages show it.
    pub(crate) fn shown(&self) -> String {
        match &self.tag {
            Some(tag) => format!("{}:{tag}", self.repository),
            None => self.repository.clone(),
        }
    }

    /// The scopes that a policy may have for this image, narrowest first.
    pub(crate) fn scopes(&self) -> Vec<String> {
        let mut scopes = Vec::new();
        if self.tag.is_some() {
            scopes.push(self.shown());
        }
        let mut name = self.repository.as_str();
        loop {
            scopes.push(name.to_owned());
            match name.rsplit_once('/') {
                Some((parent, _)) => name = parent,
                None => break,
            }
        }
        // The host without its port, then what stands for many hosts.
        let mut host = name.split(':').next().unwrap_or(name);
        while let Some((_, parent)) = host.split_once('.') {
            scopes.push(format!("*.{parent}"));
            host = parent;
        }
        scopes.push(String::new());
        scopes
    }
}

/// Which names a signature may have been made under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SignedIdentity {
    /// The same name and tag.
    MatchExact,
    /// The same name and tag, or for a pinned image the same name.
    MatchRepoDigestOrExact,
    /// The same name, whatever the tag.
    MatchRepository,
    /// This name and tag.
    ExactReference(String),
    /// This name, whatever the tag.
    ExactRepository(String),
    /// As [`Self::MatchRepoDigestOrExact`], the name's beginning replaced.
    RemapIdentity {
        prefix: String,
        signed_prefix: String,
    },
}

impl SignedIdentity {
    /// Whether a signature made under the name `signed` speaks of this image.
    pub(crate) fn accepts(&self, image: &ImageIdentity, signed: &str) -> bool {
        let Some(signed) = parse_name(signed) else {
            return false;
        };
        match self {
            Self::MatchExact => image.tag.is_some() && signed == *image,
            Self::MatchRepoDigestOrExact => digest_or_exact(image, &signed),
            Self::MatchRepository => signed.repository == image.repository,
            Self::ExactReference(name) => {
                parse_name(name).is_some_and(|name| name.tag.is_some() && name == signed)
            }
            Self::ExactRepository(name) => {
                parse_name(name).is_some_and(|name| name.repository == signed.repository)
            }
            Self::RemapIdentity {
                prefix,
                signed_prefix,
            } => match image.repository.strip_prefix(prefix.as_str()) {
                Some(rest) if rest.is_empty() || rest.starts_with('/') => {
                    let image = ImageIdentity {
                        repository: format!("{signed_prefix}{rest}"),
                        tag: image.tag.clone(),
                    };
                    digest_or_exact(&image, &signed)
                }
                _ => digest_or_exact(image, &signed),
            },
        }
    }
}

fn digest_or_exact(image: &ImageIdentity, signed: &ImageIdentity) -> bool {
    match image.tag {
        None => signed.repository == image.repository,
        Some(_) => signed == image,
    }
}

/// Reads `host/name[:tag]` with Docker's defaults for what is left out.
pub(crate) fn parse_name(text: &str) -> Option<ImageIdentity> {
    if text.len() > 1024 || text.contains('@') {
        return None;
    }
    let reference: oci_spec::distribution::Reference = text.parse().ok()?;
    let identity = ImageIdentity::pinned(reference.resolve_registry(), reference.repository());
    // The library fills in a tag that was not written.
    let tag = reference
        .tag()
        .filter(|tag| text.ends_with(&format!(":{tag}")))
        .map(str::to_owned);
    Some(ImageIdentity { tag, ..identity })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pinned(name: &str) -> ImageIdentity {
        let (registry, repository) = name.split_once('/').unwrap();
        ImageIdentity::pinned(registry, repository)
    }

    fn tagged(name: &str, tag: &str) -> ImageIdentity {
        let (registry, repository) = name.split_once('/').unwrap();
        ImageIdentity::tagged(registry, repository, tag)
    }

    #[test]
    fn scopes_go_from_the_image_to_everything() {
        assert_eq!(
            tagged("a.b.example:5000/ns/app", "v1").scopes(),
            [
                "a.b.example:5000/ns/app:v1",
                "a.b.example:5000/ns/app",
                "a.b.example:5000/ns",
                "a.b.example:5000",
                "*.b.example",
                "*.example",
                ""
            ]
        );
        assert_eq!(
            pinned("index.docker.io/library/busybox").scopes()[0],
            "docker.io/library/busybox"
        );
    }

    #[test]
    fn every_form_of_identity_accepts_what_it_should_and_nothing_else() {
        let digest = pinned("r.example/ns/app");
        let tag = tagged("r.example/ns/app", "v1");
        let exact = SignedIdentity::MatchExact;
        let default = SignedIdentity::MatchRepoDigestOrExact;
        let repository = SignedIdentity::MatchRepository;
        let one = SignedIdentity::ExactReference("s.example/x:v2".to_owned());
        let any = SignedIdentity::ExactRepository("s.example/x".to_owned());
        let remap = SignedIdentity::RemapIdentity {
            prefix: "r.example/ns".to_owned(),
            signed_prefix: "vendor.example".to_owned(),
        };
        for (identity, image, signed, accepted) in [
            (&exact, &tag, "r.example/ns/app:v1", true),
            (&exact, &tag, "r.example/ns/app:v2", false),
            (&exact, &tag, "r.example/ns/app", false),
            (&exact, &digest, "r.example/ns/app:v1", false),
            (&default, &digest, "r.example/ns/app:v9", true),
            (&default, &digest, "r.example/ns/other:v1", false),
            (&default, &tag, "r.example/ns/app:v1", true),
            (&default, &tag, "r.example/ns/app:v2", false),
            (&repository, &tag, "r.example/ns/app:v2", true),
            (&repository, &tag, "r.example/ns/app2:v1", false),
            (&one, &tag, "s.example/x:v2", true),
            (&one, &tag, "s.example/x:v3", false),
            (&any, &digest, "s.example/x:v3", true),
            (&any, &digest, "r.example/ns/app:v1", false),
            (&remap, &digest, "vendor.example/app:v1", true),
            (&remap, &tag, "vendor.example/app:v1", true),
            (&remap, &tag, "vendor.example/app:v2", false),
            (&remap, &digest, "r.example/ns/app", false),
            (
                &remap,
                &pinned("r.example/nsx/app"),
                "r.example/nsx/app:v1",
                true,
            ),
            (&default, &digest, "not a name", false),
            (&default, &digest, "r.example/ns/app@sha256:00", false),
        ] {
            assert_eq!(
                identity.accepts(image, signed),
                accepted,
                "{identity:?} {image:?} {signed}"
            );
        }
    }

    #[test]
    fn short_names_mean_what_docker_means() {
        let busybox = pinned("index.docker.io/library/busybox");
        assert!(SignedIdentity::MatchRepository.accepts(&busybox, "busybox:latest"));
        assert!(SignedIdentity::MatchRepository.accepts(&busybox, "docker.io/library/busybox"));
    }
}
