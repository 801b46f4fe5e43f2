//! Images: whether they are there, and their export.

use tokio_util::sync::CancellationToken;

use super::{Engine, forward, running, status};
use crate::error::{Context, Error, Result};
use crate::stream::source::{Proof, Running};

impl Engine {
    /// Demands that an image is there: nothing is pulled behind the operator's back.
    pub async fn require_image(&self, name: &str) -> Result<()> {
        match self.docker.inspect_image(name).await {
            Ok(_) => Ok(()),
            Err(e) if status(&e) == Some(404) => {
                Err(Error::failed(format!("image {name} is not on this engine"))
                    .hint(format!("fetch it first: docker pull {name}")))
            }
            Err(e) => Err(e).context(|| format!("cannot look for image {name}")),
        }
    }

    /// The engine's export of images, as `docker save` writes it. The engine stages it on its own disk first.
    pub async fn export(&self, names: &[String], stop: &CancellationToken) -> Result<Running> {
        for name in names {
            self.require_image(name).await?;
        }
        let (docker, names, stop) = (self.docker.clone(), names.to_vec(), stop.clone());
        Ok(running(move |sender| async move {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let sent = forward(docker.export_images(&names), &sender, &stop).await;
            (sender, sent.map(|()| Proof::default()))
        }))
    }
}
