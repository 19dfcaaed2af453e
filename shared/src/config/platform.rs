//! The platform that this process runs on, and the platform's id of the running deployment.

use super::values::Values;

/// Known platforms, recognized by the variables they set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Platform {
    /// Railway (`RAILWAY_PROJECT_ID`).
    Railway,
    /// Fly.io (`FLY_APP_NAME`).
    Fly,
    /// Render (`RENDER`).
    Render,
    /// Heroku (`DYNO`).
    Heroku,
    /// Google Cloud Run (`K_SERVICE`).
    CloudRun,
    /// AWS Lambda (`AWS_LAMBDA_FUNCTION_NAME`).
    Lambda,
    /// Kubernetes (`KUBERNETES_SERVICE_HOST`).
    Kubernetes,
    /// Some other container, recognized by the file that Docker and Podman create in it.
    Container,
}

impl Platform {
    /// The platform's name in lower case, as health reports it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Railway => "railway",
            Self::Fly => "fly",
            Self::Render => "render",
            Self::Heroku => "heroku",
            Self::CloudRun => "cloud-run",
            Self::Lambda => "lambda",
            Self::Kubernetes => "kubernetes",
            Self::Container => "container",
        }
    }

    pub(super) fn detect(values: &Values<'_>, in_container: bool) -> Option<Self> {
        let signs = [
            ("RAILWAY_PROJECT_ID", Self::Railway),
            ("FLY_APP_NAME", Self::Fly),
            ("RENDER", Self::Render),
            ("DYNO", Self::Heroku),
            ("K_SERVICE", Self::CloudRun),
            ("AWS_LAMBDA_FUNCTION_NAME", Self::Lambda),
            ("KUBERNETES_SERVICE_HOST", Self::Kubernetes),
        ];
        let sign = signs.into_iter().find(|(name, _)| values.is_set(name));
        sign.map(|(_, platform)| platform).or(in_container.then_some(Self::Container))
    }

    /// How many addresses the platform's own proxies add to `X-Forwarded-For`, including the client's: the client may
    /// have forged those before. Zero if the platform does not determine the proxies.
    pub(super) fn proxies(self) -> u8 {
        match self {
            Self::Railway | Self::Heroku | Self::CloudRun => 1,
            // Fly appends the address that received the request, and Render is behind another network.
            Self::Fly | Self::Render => 2,
            Self::Lambda | Self::Kubernetes | Self::Container => 0,
        }
    }

    /// The id of the running deployment, most specific part first: a value that changes with each deployment, but not
    /// if only the process restarts. `None` if the environment does not contain enough.
    pub(super) fn deployment(self, values: &Values<'_>) -> Option<String> {
        let names: &[&str] = match self {
            Self::Railway => &["RAILWAY_DEPLOYMENT_ID", "RAILWAY_REPLICA_ID"],
            // The version is that of the machine's configuration, which each deployment creates anew.
            Self::Fly => &["FLY_MACHINE_VERSION", "FLY_MACHINE_ID", "FLY_IMAGE_REF"],
            Self::Render => &["RENDER_GIT_COMMIT", "RENDER_INSTANCE_ID"],
            // The first two exist only if the app has enabled them.
            Self::Heroku => &["HEROKU_RELEASE_VERSION", "HEROKU_DYNO_ID", "DYNO"],
            Self::CloudRun => &["K_REVISION"],
            Self::Lambda | Self::Kubernetes | Self::Container => &[],
        };
        let parts: Vec<String> = names.iter().filter_map(|name| values.text(name)).collect();
        (!parts.is_empty()).then(|| parts.join(" "))
    }
}
