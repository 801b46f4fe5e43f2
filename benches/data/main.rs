//! Writes the benches' data to disk, for what is measured as whole processes:
//!
//!     cargo bench --bench data -- registry FOLDER [BYTES]
//!     cargo bench --bench data -- database FILE [BYTES]
//!     cargo bench --bench data -- small FOLDER [FILES]

#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "its data is to lie on disk")]
#![allow(clippy::print_stderr, reason = "it says what it cannot do")]

use std::io::{BufWriter, Result, Write};
use std::path::Path;
use std::process::ExitCode;

#[path = "mod.rs"]
mod data;

/// Bytes of the registry, unless said otherwise.
const REGISTRY: u64 = 1_540_000_000;
/// Bytes of the database.
const DATABASE: u64 = 1_060_000_000;
/// Number of small files.
const SMALL: u64 = 100_000;
const SMALL_LEN: usize = 4096;

fn main() -> ExitCode {
    // Cargo adds its own `--bench`.
    let arguments: Vec<_> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let words: Vec<_> = arguments.iter().map(String::as_str).collect();
    let number = words.get(2).map(|digits| digits.parse());
    let written = match (&words[..], number.transpose()) {
        (["registry", folder, ..], Ok(size)) => registry(Path::new(folder), size.unwrap_or(REGISTRY)),
        (["database", file, ..], Ok(size)) => database(Path::new(file), size.unwrap_or(DATABASE)),
        (["small", folder, ..], Ok(files)) => small(Path::new(folder), files.unwrap_or(SMALL)),
        // `cargo bench` runs every bench: this one has nothing to measure.
        ([], _) => return ExitCode::SUCCESS,
        _ => {
            eprintln!("usage: data registry FOLDER [BYTES] | database FILE [BYTES] | small FOLDER [FILES]");
            return ExitCode::from(2);
        }
    };
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("data: {error}");
            ExitCode::FAILURE
        }
    }
}

fn registry(folder: &Path, size: u64) -> Result<()> {
    for file in data::registry(size) {
        let path = folder.join(&file.path);
        path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
        file.write(&mut std::fs::File::create(path)?)?;
    }
    Ok(())
}

fn database(file: &Path, size: u64) -> Result<()> {
    let mut out = BufWriter::with_capacity(1 << 20, std::fs::File::create(file)?);
    data::database(size, &mut out)?;
    out.flush()
}

fn small(folder: &Path, files: u64) -> Result<()> {
    let mut random = data::Random::new(5);
    let mut bytes = [0; SMALL_LEN];
    for n in 0..files {
        let folder = folder.join(format!("{:03}", n / 1000));
        if n % 1000 == 0 {
            std::fs::create_dir_all(&folder)?;
        }
        random.fill(&mut bytes);
        std::fs::write(folder.join(format!("{n:06}.dat")), bytes)?;
    }
    Ok(())
}
