//! As much of a tar as the benches write: ustar headers of plain files (POSIX.1-1988).

use std::io::{Result, Write};

const BLOCK: u64 = 512;

/// Bytes that a tar of one member adds to the member's, its padding left out.
pub const OVERHEAD: u64 = 3 * BLOCK;

/// Writes a member's header; its `len` bytes and [`pad`] must follow.
pub fn header(path: &str, len: u64, out: &mut impl Write) -> Result<()> {
    let mut block = [0; BLOCK as usize];
    // Where a name is too long for its field, its folders go into a second one.
    let cut = if path.len() > 100 { path[..path.len().min(155)].rfind('/').unwrap_or(0) } else { 0 };
    let (prefix, name) = (&path[..cut], path[cut..].trim_start_matches('/'));
    let mut put = |at: usize, text: &[u8]| block[at..at + text.len()].copy_from_slice(text);
    put(0, name.as_bytes());
    put(100, b"0000644\x000000000\x000000000\0");
    put(124, format!("{len:011o}\0").as_bytes());
    put(136, b"15242374000\0        0");
    put(257, b"ustar\x0000");
    put(345, prefix.as_bytes());
    let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    out.write_all(&block)
}

/// Pads a member of `len` bytes to whole blocks.
pub fn pad(len: u64, out: &mut impl Write) -> Result<()> {
    let padding = len.next_multiple_of(BLOCK) - len;
    out.write_all(&[0; BLOCK as usize][..padding as usize])
}

/// Writes the end marker.
pub fn end(out: &mut impl Write) -> Result<()> {
    out.write_all(&[0; 2 * BLOCK as usize])
}
