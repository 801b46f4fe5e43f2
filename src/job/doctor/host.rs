//! This host: memory and cores, the passphrase, and whether gpg reads what is sealed with it.

use std::process::Stdio;

use bytes::Bytes;
use secrecy::{ExposeSecret, SecretString};
use tokio::io::AsyncWriteExt;

use crate::archive::openpgp::{Body, Cipher, MessageKey, Packer, Sealer, block_pool};
use crate::error::Result;
use crate::host::passphrase::Sources;
use crate::host::process;
use crate::report::{Finding, human_bytes, printable};

/// What is sealed, to be read by gpg.
const TEXT: &[u8] = b"sealift doctor: gpg reads what sealift seals\n";

/// Memory and cores, against what a run may use.
pub(super) fn memory(wanted: u64) -> Finding {
    let read = |file: &str| std::fs::read_to_string(file).unwrap_or_default();
    let meminfo = read("/proc/meminfo");
    let group = read("/proc/self/cgroup");
    let group = group.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/");
    let limits = [format!("/sys/fs/cgroup{group}/memory.max"), "/sys/fs/cgroup/memory.max".into()];
    let limit = limits.iter().filter_map(|file| read(file).trim().parse::<u64>().ok()).min();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    judge_memory(wanted, field(&meminfo, "MemTotal:"), field(&meminfo, "MemAvailable:"), limit, cores)
}

/// A field of `/proc/meminfo`, in bytes.
fn field(meminfo: &str, name: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

fn judge_memory(
    wanted: u64,
    total: Option<u64>,
    available: Option<u64>,
    limit: Option<u64>,
    cores: usize,
) -> Finding {
    let cores = format!("{cores} core{}", if cores == 1 { "" } else { "s" });
    let asks = format!("--memory is {}", human_bytes(wanted));
    let change = "give less --memory, or more memory to this host, container or service";
    match (limit.into_iter().chain(total).min(), available) {
        (Some(most), _) if wanted > most => {
            Finding::fail("memory", format!("{asks}, and there are {} ({cores})", human_bytes(most)), change)
        }
        (_, Some(available)) if wanted > available => {
            let found = format!("{asks}, and {} are free now ({cores})", human_bytes(available));
            Finding::warn("memory", found, change)
        }
        (Some(most), _) => Finding::ok("memory", format!("{asks} of {}, {cores}", human_bytes(most))),
        (None, _) => Finding::ok("memory", format!("{asks}; what there is, is not known here ({cores})")),
    }
}

/// Whether there is a passphrase, and gpg opens with it what was sealed with it.
pub(super) async fn passphrase(cipher: Cipher, sources: &Sources) -> Vec<Finding> {
    let secret = match sources.given() {
        Err(error) => return vec![super::failed("passphrase", &error)],
        Ok(None) => {
            return vec![Finding::warn(
                "passphrase",
                "none is given: it would be asked for at a terminal, and no job by night has one",
                "give --passphrase-file, --passphrase-command or SEALIFT_PASSPHRASE_FILE",
            )];
        }
        Ok(Some(secret)) => secret,
    };
    let mut found = vec![judge_passphrase(&secret)];
    found.push(match cipher {
        Cipher::Aead => Finding::ok("gpg", "not asked: it does not read --cipher aead"),
        Cipher::Cfb => match by_gpg(&secret).await {
            Ok(finding) => finding,
            Err(error) => super::failed("gpg", &error),
        },
    });
    found
}

fn judge_passphrase(secret: &SecretString) -> Finding {
    let (text, change) = (secret.expose_secret(), "write it again, in one line of plain characters");
    if text.chars().count() < 12 {
        let change =
            "take at least 12 characters, or six random words: whoever reads the store can try them all";
        Finding::warn("passphrase", "is there, and short", change)
    } else if text.ends_with('\r') {
        Finding::warn(
            "passphrase",
            "is there, and ends with a carriage return, which is hard to type",
            change,
        )
    } else if text.trim() != text {
        Finding::warn("passphrase", "is there, and begins or ends with a space, which is easily lost", change)
    } else {
        Finding::ok("passphrase", "is there")
    }
}

/// Seals some bytes, and has gpg open them. The passphrase and the message go to its standard input, one after the other.
async fn by_gpg(secret: &SecretString) -> Result<Finding> {
    let message = sealed(secret)?;
    let mut gpg = tokio::process::Command::from(process::command("gpg"));
    // It needs no home that way, and makes none.
    gpg.args(["--batch", "--quiet", "--no-tty", "--no-options", "--no-keyring"]);
    gpg.args(["--pinentry-mode", "loopback"]);
    gpg.args(["--passphrase-fd", "0", "--decrypt"]).kill_on_drop(true);
    gpg.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = match gpg.spawn() {
        Ok(child) => child,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(Finding::ok("gpg", "not on this host: whether it reads what is sealed was not tried"));
        }
        Err(error) => return Ok(Finding::warn("gpg", format!("cannot be run: {error}"), CHANGE)),
    };
    if let Some(mut stdin) = child.stdin.take() {
        // One that stops reading says why by itself.
        let _ = stdin.write_all(secret.expose_secret().as_bytes()).await;
        let _ = stdin.write_all(b"\n").await;
        let _ = stdin.write_all(&message).await;
    }
    let output = child.wait_with_output().await;
    Ok(match output {
        Ok(output) if output.status.success() && output.stdout == TEXT => {
            Finding::ok("gpg", "opens with the passphrase what sealift seals with it")
        }
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            let said = said.lines().map(str::trim).rfind(|line| !line.is_empty());
            let said = printable(said.unwrap_or("it says nothing"));
            Finding::fail(
                "gpg",
                format!("does not open what sealift seals ({}): {said}", output.status),
                CHANGE,
            )
        }
        Err(error) => Finding::warn("gpg", format!("cannot be waited for: {error}"), CHANGE),
    })
}

const CHANGE: &str =
    "archives are opened by sealift all the same: try `gpg --version`, and another passphrase";

/// A message of [`TEXT`] that this passphrase opens.
fn sealed(secret: &SecretString) -> Result<Vec<u8>> {
    let key = MessageKey::new(Cipher::Cfb)?;
    let mut message = Vec::new();
    let mut body = Body::new(Some((&key, key.head(secret)?)), |bytes: Bytes| {
        message.extend_from_slice(&bytes);
        Ok(())
    })?;
    let mut sealer = Sealer::new(Some(&key))?;
    let mut packer = Packer::new(Some(Cipher::Cfb), block_pool(2), |block| body.push(sealer.seal(block)?))?;
    packer.push(TEXT)?;
    packer.finish()?;
    Ok(message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Verdict;

    const GIB: u64 = 1 << 30;

    #[test]
    fn memory_is_held_against_what_there_is_and_what_is_free() {
        let verdict =
            |wanted, total, free, limit| judge_memory(wanted, Some(total), Some(free), limit, 2).verdict;
        assert_eq!(verdict(GIB, 8 * GIB, 4 * GIB, None), Verdict::Ok);
        assert_eq!(verdict(5 * GIB, 8 * GIB, 4 * GIB, None), Verdict::Warn);
        assert_eq!(verdict(9 * GIB, 8 * GIB, 9 * GIB, None), Verdict::Fail);
        assert_eq!(verdict(GIB, 8 * GIB, 4 * GIB, Some(GIB / 2)), Verdict::Fail, "a container has less");
        assert_eq!(judge_memory(GIB, None, None, None, 1).verdict, Verdict::Ok);
    }

    #[test]
    fn fields_of_the_kernels_table_are_read() {
        let text = "MemTotal:       16316412 kB\nMemAvailable:    8000000 kB\nHugePages: 0\n";
        assert_eq!(field(text, "MemAvailable:"), Some(8_000_000 * 1024));
        assert_eq!((field(text, "MemFree:"), field(text, "HugePages:")), (None, None));
    }

    #[test]
    fn a_passphrase_that_is_easily_lost_or_guessed_is_told_without_being_shown() {
        for (text, verdict) in [
            ("correct horse battery", Verdict::Ok),
            ("short", Verdict::Warn),
            ("correct horse battery ", Verdict::Warn),
            ("correct horse battery\r", Verdict::Warn),
        ] {
            let finding = judge_passphrase(&SecretString::from(text));
            assert_eq!(finding.verdict, verdict, "{text:?}");
            assert!(!finding.to_string().contains(text.trim()) || text == "short", "{finding}");
        }
    }

    #[test]
    fn what_is_sealed_opens_with_its_passphrase_alone() {
        let secret = SecretString::from("correct horse battery staple");
        let message = sealed(&secret).unwrap();
        let mut text = Vec::new();
        let mut reader = crate::archive::openpgp::decrypt(&message[..], &secret).unwrap();
        std::io::Read::read_to_end(&mut reader, &mut text).unwrap();
        assert_eq!(text, TEXT);
        assert!(crate::archive::openpgp::decrypt(&message[..], &"wrong".into()).is_err());
    }
}
