//! Local clients: root on this machine, over the control socket.

use std::fs::{DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::net::{UnixListener, UnixStream};

use super::house::Rooms;
use crate::control::SOCKET;
use crate::control::server::{self, Access};
use crate::root::Root;

/// Accepting fails when descriptors or memory are short; that is not mended by trying at once.
const ACCEPT_AGAIN: Duration = Duration::from_secs(1);

/// The socket for local clients; it and its directory are removed on drop, so that nothing of it is in the real root.
pub struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl ControlSocket {
    pub async fn bind(root: &Root) -> anyhow::Result<Self> {
        let path = root.join(SOCKET);
        let directory = path.parent().expect("the path has a directory");
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .with_context(|| format!("making {}", directory.display()))?;
        if UnixStream::connect(&path).await.is_ok() {
            bail!("another vestibule daemon is running (it answers at {})", path.display());
        }
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("removing the old {}", path.display()));
            }
            _ => {}
        }
        let listener = UnixListener::bind(&path).with_context(|| format!("making {}", path.display()))?;
        std::fs::set_permissions(&path, Permissions::from_mode(0o600))
            .with_context(|| format!("closing {}", path.display()))?;
        Ok(Self { listener, path })
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        if let Err(error) = remove_socket(&self.path) {
            log::warn!("{error:#}");
        }
    }
}

/// Removes the control socket with its directory, which holds only what is ours.
pub fn remove_socket(path: &Path) -> anyhow::Result<()> {
    let directory = path.parent().expect("the path has a directory");
    std::fs::remove_dir_all(directory).with_context(|| format!("removing {}", directory.display()))
}

pub async fn serve(control: ControlSocket, house: Arc<Rooms>) {
    loop {
        match control.listener.accept().await {
            Ok((stream, _)) => {
                let house = house.clone();
                crate::task::spawn(async move {
                    if let Err(error) = server::serve(stream, Access::Local, house).await {
                        log::warn!("a local client broke the control protocol: {error}");
                    }
                });
            }
            Err(error) => {
                log::warn!("accepting a local client failed: {error}; trying again");
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}
