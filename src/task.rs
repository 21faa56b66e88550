//! Starting tasks.

use std::pin::Pin;

use tokio::task::JoinHandle;

/// As `tokio::spawn`, but with one copy of its machinery for all tasks of a kind of result: each future of its own would
/// bring 2 KB into the image.
pub fn spawn<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    let future: Pin<Box<dyn Future<Output = T> + Send>> = Box::pin(future);
    tokio::spawn(future)
}
