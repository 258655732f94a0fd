//! One process of the command that encrypts: what is told it goes in as lines, an age file comes out.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use zeroize::Zeroizing;

use super::command::trusted;

/// How long it may take: a passphrase costs a second or so, a hundred megabytes another.
const TIMEOUT: Duration = Duration::from_secs(120);

/// What is kept of its standard error.
const STDERR_BYTES_MAX: u64 = 4 << 10;

/// Has `command` encrypt the lines that `next` gives, the first of which says for whom. Gives the whole file, of at most
/// `max` bytes.
///
/// # Errors
/// One sentence.
pub async fn encrypt<F>(command: &Path, arguments: &[&str], max: usize, mut next: F) -> Result<Vec<u8>, String>
where
    F: FnMut() -> Result<Option<Zeroizing<Vec<u8>>>, String>,
{
    trusted(command).map_err(|error| error.to_string())?;
    let cannot = |error: std::io::Error| format!("{} could not be run: {error}", command.display());
    let mut child = Command::new(command)
        .args(arguments)
        .env_clear()
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(cannot)?;
    let (Some(mut stdin), Some(stdout), Some(stderr)) = (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err("the process that encrypts has no standard streams".to_owned());
    };
    let feed = async move {
        while let Some(line) = next()? {
            // One that ends early says why by itself.
            if stdin.write_all(&line).await.is_err() {
                break;
            }
        }
        drop(stdin);
        Ok::<(), String>(())
    };
    let (mut file, mut words) = (Vec::new(), String::new());
    let mut taken = stdout.take(max as u64 + 1);
    let mut heard = stderr.take(STDERR_BYTES_MAX);
    let all = async {
        let streams = async {
            tokio::try_join!(taken.read_to_end(&mut file), heard.read_to_string(&mut words)).map_err(|e| e.to_string())
        };
        tokio::try_join!(feed, streams)?;
        Ok::<_, String>(())
    };
    tokio::time::timeout(TIMEOUT, all)
        .await
        .map_err(|_| format!("the process that encrypts took longer than {} s and was killed", TIMEOUT.as_secs()))??;
    if file.len() > max {
        return Err(format!("it would be larger than {max} bytes"));
    }
    let status = child.wait().await.map_err(cannot)?;
    if status.success() {
        return Ok(file);
    }
    let words = words.trim().trim_start_matches("error: ").replace(|c: char| c.is_control(), " ");
    Err(if words.is_empty() { format!("the process that encrypts ended with {status}") } else { words })
}
