//! Tars for tests, header by header.

use super::{BLOCK, Entry, Walker, pax};
use crate::error::Result;

/// The end of a tar.
pub(crate) const END: [u8; 2 * BLOCK] = [0; 2 * BLOCK];

/// A header with its checksum, after `change` has made of it what it wants.
pub(crate) fn header(name: &str, flag: u8, size: usize, change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut block = vec![0; BLOCK];
    block[..name.len()].copy_from_slice(name.as_bytes());
    block[100..107].copy_from_slice(b"0000644");
    block[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
    block[136..147].copy_from_slice(b"14000000000");
    block[156] = flag;
    block[257..265].copy_from_slice(b"ustar\x0000");
    change(&mut block);
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|&b| u32::from(b)).sum();
    block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    block
}

/// A member with data, in whole blocks.
pub(crate) fn member(name: &str, flag: u8, data: &[u8]) -> Vec<u8> {
    with_data(header(name, flag, data.len(), |_| {}), data)
}

/// A link.
pub(crate) fn link(name: &str, flag: u8, target: &str) -> Vec<u8> {
    header(name, flag, 0, |block| block[157..157 + target.len()].copy_from_slice(target.as_bytes()))
}

/// A pax header: `x`, or `g`.
pub(crate) fn pax_header(flag: u8, records: &[(&str, &str)]) -> Vec<u8> {
    let mut data = Vec::new();
    records.iter().for_each(|(key, value)| pax::write(&mut data, key.as_bytes(), value.as_bytes()));
    member("PaxHeaders/x", flag, &data)
}

/// A header and its data, in whole blocks.
pub(crate) fn with_data(mut header: Vec<u8>, data: &[u8]) -> Vec<u8> {
    header.extend_from_slice(data);
    header.resize(header.len().next_multiple_of(BLOCK), 0);
    header
}

/// What a walker finds in a tar that comes in pieces of so many bytes, and whether that ends.
pub(crate) fn walk(tar: &[u8], step: usize) -> (Vec<Entry>, Result<()>) {
    let (mut walker, mut found) = (Walker::new(), Vec::new());
    for piece in tar.chunks(step) {
        if let Err(error) = walker.feed(piece, &mut found) {
            return (found, Err(error));
        }
    }
    (found, walker.finish())
}
