//! The fields of tar headers: ustar's, pax's and GNU's.

use super::BLOCK;

/// Whether `block` is a tar header: its checksum is right (ustar `chksum` field).
pub fn is_header(block: &[u8]) -> bool {
    block.len() >= BLOCK && block[..BLOCK].iter().any(|&b| b != 0) && checksum_is_right(&block[..BLOCK])
}

pub(super) fn checksum_is_right(block: &[u8]) -> bool {
    let Some(stored) = number(&block[148..156]) else { return false };
    let spaces = 8 * u64::from(b' ');
    let field: u64 = block[148..156].iter().map(|&b| u64::from(b)).sum();
    let unsigned = block.iter().map(|&b| u64::from(b)).sum::<u64>() - field + spaces;
    // Some old writers added signed bytes.
    let signed: i64 = block.iter().map(|&b| i64::from(b as i8)).sum::<i64>()
        - block[148..156].iter().map(|&b| i64::from(b as i8)).sum::<i64>()
        + spaces as i64;
    stored == unsigned || i64::try_from(stored) == Ok(signed)
}

/// A numeric field: octal digits, or GNU base-256 when its first bit is set.
pub(super) fn number(field: &[u8]) -> Option<u64> {
    if field[0] & 0x80 != 0 {
        // A set sign bit is a negative number: a time before 1970, never a size.
        if field[0] & 0x40 != 0 {
            return None;
        }
        let first = u64::from(field[0] & 0x3f);
        return field[1..].iter().try_fold(first, |n, &b| n.checked_mul(256)?.checked_add(u64::from(b)));
    }
    let text = field.split(|&b| b == 0).next().unwrap_or_default().trim_ascii();
    text.iter().try_fold(0u64, |n, &b| match b {
        b'0'..=b'7' => n.checked_mul(8)?.checked_add(u64::from(b - b'0')),
        _ => None,
    })
}

/// A time field: like [`number`], and base-256 may be negative.
pub(super) fn time(field: &[u8]) -> String {
    match number(field) {
        Some(n) => n.to_string(),
        None if field[0] & 0xc0 == 0xc0 => {
            field[1..].iter().fold(-1i128, |n, &b| (n << 8) | i128::from(b)).to_string()
        }
        None => "0".into(),
    }
}

/// A text field: up to its first NUL.
pub(super) fn text(field: &[u8]) -> Vec<u8> {
    field.split(|&b| b == 0).next().unwrap_or_default().to_vec()
}

/// What extended headers say about the member that follows them.
#[derive(Debug, Default, Clone)]
pub(super) struct Extension {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    /// GNU's `L` and `K` headers, which give way to pax whatever stands first: so GNU tar reads them.
    pub(super) long_name: Option<Vec<u8>>,
    pub(super) long_link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) real_size: Option<u64>,
    pub(super) sparse_name: Option<Vec<u8>>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) mtime: Option<String>,
}

impl Extension {
    /// Takes in pax records, `LEN KEY=VALUE\n` each (POSIX pax, extended header).
    pub(super) fn pax(&mut self, mut data: &[u8]) -> Option<()> {
        while !data.is_empty() && data[0] != 0 {
            let space = data.iter().position(|&b| b == b' ')?;
            let len: usize = std::str::from_utf8(&data[..space]).ok()?.parse().ok()?;
            let record = data.get(space + 1..len)?.strip_suffix(b"\n")?;
            let equals = record.iter().position(|&b| b == b'=')?;
            self.record(&record[..equals], &record[equals + 1..])?;
            data = &data[len..];
        }
        Some(())
    }

    fn record(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        let decimal = || std::str::from_utf8(value).ok()?.parse::<u64>().ok();
        match key {
            b"path" => self.path = Some(value.to_vec()),
            b"linkpath" => self.link = Some(value.to_vec()),
            b"size" => self.size = Some(decimal()?),
            b"uid" => self.uid = decimal(),
            b"gid" => self.gid = decimal(),
            b"mtime" => self.mtime = Some(String::from_utf8_lossy(value).into_owned()),
            b"GNU.sparse.name" => self.sparse_name = Some(value.to_vec()),
            b"GNU.sparse.realsize" | b"GNU.sparse.size" => self.real_size = Some(decimal()?),
            _ => {}
        }
        Some(())
    }
}

/// The name of a ustar header: `prefix`, a slash, `name`.
pub(super) fn ustar_path(block: &[u8]) -> Vec<u8> {
    let name = text(&block[..100]);
    // Only POSIX ustar has a prefix there; GNU keeps times in those bytes.
    let prefix = if &block[257..263] == b"ustar\0" { text(&block[345..500]) } else { Vec::new() };
    if prefix.is_empty() { name } else { [&prefix[..], b"/", &name[..]].concat() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_base_256_and_nothing_else() {
        for (field, expected) in [
            (&b"0000644\0"[..], Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"644\0\xff\xff", Some(0o644)),
            (b"\0\0\0\0", Some(0)),
            (b"        ", Some(0)),
            (b"0000648\0", None),
            (b"-1\0", None),
            (b"\x80\0\0\0\0\0\x01\0", Some(256)),
            (b"\xff\xff\xff\xff", None),
            (b"\x80\0\0\xff\xff\xff\xff\xff\xff\xff\xff", Some(u64::MAX)),
            (b"\x80\0\x01\0\0\0\0\0\0\0\0", None),
            (b"7777777777777777777777777", None),
        ] {
            assert_eq!(number(field), expected, "{field:?}");
        }
    }

    #[test]
    fn a_time_before_1970_is_negative() {
        assert_eq!(time(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"), "-1");
        assert_eq!(time(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\0"), "-256");
        assert_eq!(time(b"00000000144\0"), "100");
        assert_eq!(time(b"nonsense\0\0\0\0"), "0");
    }

    #[test]
    fn pax_records_are_read_by_their_length_and_broken_ones_refused() {
        let mut ext = Extension::default();
        ext.pax(b"12 path=a=b\n17 path=line\nend\n11 size=77\n\0\0\0").unwrap();
        assert_eq!((ext.path.as_deref(), ext.size), (Some(&b"line\nend"[..]), Some(77)));
        for bad in [
            &b"nonsense"[..],
            b"99 path=x\n",
            b"9 path=xy\n",
            b"0 \n",
            b"3 \n",
            b"18446744073709551616 a=b\n",
            b"11 size=-1\n",
            b"8 path\n\n",
        ] {
            assert!(Extension::default().pax(bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn only_posix_ustar_has_a_prefix() {
        let mut block = [0; BLOCK];
        block[..4].copy_from_slice(b"name");
        block[345..351].copy_from_slice(b"prefix");
        assert_eq!(ustar_path(&block), b"name");
        block[257..263].copy_from_slice(b"ustar ");
        assert_eq!(ustar_path(&block), b"name", "GNU keeps times there");
        block[257..263].copy_from_slice(b"ustar\0");
        assert_eq!(ustar_path(&block), b"prefix/name");
    }

    #[test]
    fn a_block_of_zeros_or_of_text_is_no_header() {
        assert!(!is_header(&[0; BLOCK]) && !is_header(&[b'a'; BLOCK]) && !is_header(b"short"));
    }
}
