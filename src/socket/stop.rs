//! The word that the daemon ends.

use tokio::sync::watch;

/// Resolves when servers are to end in good order: what was asked is answered, nothing new is taken.
#[derive(Clone)]
pub struct Stop(watch::Receiver<bool>);

impl Stop {
    /// Comes when `true` is sent.
    pub fn new(word: watch::Receiver<bool>) -> Self {
        Self(word)
    }

    /// Never comes: for a server that ends with the process.
    pub fn never() -> Self {
        Self(watch::channel(false).1)
    }

    /// Waits for the word.
    pub async fn stopped(mut self) {
        if self.0.wait_for(|stopped| *stopped).await.is_err() {
            // Nobody is left who could say it.
            std::future::pending().await
        }
    }
}
