//! Which version of an image a SOURCE means now, and what is kept with it.

use anyhow::Context as _;
use onedock_common::config::Config;
use onedock_common::kept::{Attributes, state_tag};
use onedock_common::reference::{RegistryName, Source};
use onedock_common::secret::Credential;
use onedock_registry::{Client, Options};

/// The registry client that this host's configuration describes.
pub(crate) fn client(config: &Config) -> anyhow::Result<Client> {
    Ok(Client::new(Options::from(config))?)
}

/// The same with a login that was entrusted for this call; without one the host's own.
pub(crate) fn client_with(
    config: &Config,
    registry: &RegistryName,
    login: Option<&Credential>,
) -> anyhow::Result<Client> {
    let client = client(config)?;
    Ok(match login {
        Some(login) => client.with_login(registry, login),
        None => client,
    })
}

/// The image as it is now.
pub(crate) async fn current(client: &Client, source: &Source) -> anyhow::Result<Source> {
    let reference = source.repository().tagged(&state_tag(source)?);
    match client.resolve(&reference).await {
        Ok(found) => Ok(Source::new(source.repository().clone(), found.digest)),
        // An image of before there were such tags, or one whose tag an administrator removed.
        Err(e) if e.is_not_found() => Ok(source.clone()),
        Err(e) => Err(e).context("the image's present state cannot be asked for"),
    }
}

/// What is kept with the image.
pub(crate) async fn attributes(client: &Client, source: &Source) -> anyhow::Result<Attributes> {
    let tag = Attributes::tag()?;
    match client
        .get_artifact(source.repository(), &tag, Attributes::MEDIA_TYPE)
        .await?
    {
        None => Ok(Attributes::default()),
        Some(json) => {
            serde_json::from_slice(&json).context("the attributes kept with the image are damaged")
        }
    }
}
