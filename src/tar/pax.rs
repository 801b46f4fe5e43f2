//! Records of pax headers, both ways, and which of them hold for a member.

use super::header::text;

/// What the extended headers before a member say about it.
///
/// As GNU tar reads them, of two `x` headers in a row, and of two `g` headers, the later one replaces the earlier as a
/// whole; of two records of one key in a header the later holds.
#[derive(Debug, Default, Clone)]
pub(super) struct Extension {
    /// The last `x`.
    pub(super) own: Pax,
    /// GNU's `L` and `K` headers, which give way to pax whatever stands first.
    pub(super) long_name: Option<Vec<u8>>,
    pub(super) long_link: Option<Vec<u8>>,
}

impl Extension {
    pub(super) fn long_name(&mut self, data: &[u8]) {
        self.long_name = Some(text(data));
    }

    pub(super) fn long_link(&mut self, data: &[u8]) {
        self.long_link = Some(text(data));
    }
}

/// The records of one pax header.
#[derive(Debug, Default, Clone)]
pub(super) struct Pax {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) mtime: Option<String>,
    /// Whole seconds.
    pub(super) ctime: Option<i64>,
    pub(super) sparse: Sparse,
    /// Extended attributes and ACLs, as they are.
    pub(super) attributes: Vec<(Vec<u8>, Vec<u8>)>,
}

/// GNU's records of a sparse file.
#[derive(Debug, Default, Clone)]
pub(super) struct Sparse {
    pub(super) name: Option<Vec<u8>>,
    pub(super) real_size: Option<u64>,
    pub(super) major: Option<u64>,
    /// Of versions 0.0 and 0.1: offsets and lengths in turn.
    pub(super) map: Option<Vec<u64>>,
}

/// Prefixes of the keys whose records are kept as they are.
const ATTRIBUTES: [&[u8]; 2] = [b"SCHILY.xattr.", b"SCHILY.acl."];

impl Pax {
    /// Reads records, `LEN KEY=VALUE\n` each (POSIX pax, extended header). None where they are none, or where one that
    /// says where the next member begins is not readable.
    pub(super) fn read(mut data: &[u8]) -> Option<Pax> {
        let mut pax = Pax::default();
        while !data.is_empty() && data[0] != 0 {
            let space = data.iter().position(|&b| b == b' ')?;
            let len: usize = std::str::from_utf8(&data[..space]).ok()?.parse().ok()?;
            let record = data.get(space + 1..len)?.strip_suffix(b"\n")?;
            let equals = record.iter().position(|&b| b == b'=')?;
            let key = Some(&record[..equals]).filter(|key| !key.contains(&0))?;
            pax.record(key, &record[equals + 1..])?;
            data = &data[len..];
        }
        Some(pax)
    }

    fn record(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        match key {
            b"path" => self.path = Some(text(value)),
            b"linkpath" => self.link = Some(text(value)),
            b"size" => self.size = Some(decimal(value)?),
            // What is no number does not hold: the header's own field does.
            b"uid" => self.uid = decimal(value).or(self.uid),
            b"gid" => self.gid = decimal(value).or(self.gid),
            b"mtime" => self.mtime = seconds(value).or(self.mtime.take()),
            b"ctime" => self.ctime = seconds(value).and_then(|text| text.split('.').next()?.parse().ok()),
            b"GNU.sparse.name" => self.sparse.name = Some(text(value)),
            b"GNU.sparse.realsize" | b"GNU.sparse.size" => self.sparse.real_size = Some(decimal(value)?),
            b"GNU.sparse.major" => self.sparse.major = Some(decimal(value)?),
            b"GNU.sparse.map" => {
                let numbers = value.split(|&b| b == b',').filter(|n| !n.is_empty()).map(decimal);
                self.sparse.map = Some(numbers.collect::<Option<_>>()?);
            }
            b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => {
                self.sparse.map.get_or_insert_default().push(decimal(value)?);
            }
            _ if ATTRIBUTES.iter().any(|prefix| key.starts_with(prefix)) => {
                self.attributes.push((key.to_vec(), value.to_vec()));
            }
            _ => {}
        }
        Some(())
    }
}

/// Adds a record.
pub(super) fn write(to: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    // The length counts its own digits.
    let mut len = rest + rest.to_string().len();
    if rest + len.to_string().len() != len {
        len += 1;
    }
    to.extend([len.to_string().as_bytes(), b" ", key, b"=", value, b"\n"].concat());
}

fn decimal(value: &[u8]) -> Option<u64> {
    let digits = value.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(value).ok().filter(|_| digits)?.parse().ok()
}

/// A time as pax writes it: seconds, perhaps negative, perhaps with decimals. What follows them is nothing, as for GNU tar.
fn seconds(value: &[u8]) -> Option<String> {
    let digits = |bytes: &[u8]| bytes.iter().take_while(|b| b.is_ascii_digit()).count();
    let sign = usize::from(value.first() == Some(&b'-'));
    let whole = sign + digits(&value[sign..]);
    let decimals = value[whole..].strip_prefix(b".").map_or(0, digits);
    let end = if decimals > 0 { whole + 1 + decimals } else { whole };
    let text = std::str::from_utf8(&value[..end]).ok()?;
    text.split('.').next()?.parse::<i64>().ok().map(|_| text.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_written_as_they_are_read() {
        for len in [0, 1, 85, 86, 87, 88, 984, 985, 986, 987, 5000] {
            let mut data = Vec::new();
            write(&mut data, b"path", &vec![b'x'; len]);
            write(&mut data, b"SCHILY.xattr.user.a", b"b=\n\0");
            let pax = Pax::read(&data).unwrap();
            assert_eq!(pax.path.unwrap().len(), len);
            assert_eq!(pax.attributes, [(b"SCHILY.xattr.user.a".to_vec(), b"b=\n\0".to_vec())]);
        }
    }

    #[test]
    fn the_later_record_of_a_key_holds_and_what_is_no_number_does_not() {
        let mut data = Vec::new();
        for (key, value) in
            [("uid", "7"), ("uid", "-5"), ("mtime", "1.5"), ("mtime", "soon"), ("path", "a"), ("path", "b")]
        {
            write(&mut data, key.as_bytes(), value.as_bytes());
        }
        let pax = Pax::read(&data).unwrap();
        assert_eq!(
            (pax.uid, pax.mtime.as_deref(), pax.path.as_deref()),
            (Some(7), Some("1.5"), Some(&b"b"[..]))
        );
    }

    #[test]
    fn what_follows_a_time_is_nothing() {
        for (value, read) in [
            ("-5.25", Some("-5.25")),
            ("5.25x", Some("5.25")),
            ("999xxx5.4", Some("999")),
            ("5.", Some("5")),
            ("", None),
            ("-", None),
            (".5", None),
            ("+5", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(seconds(value.as_bytes()).as_deref(), read, "{value}");
        }
    }

    #[test]
    fn when_a_file_changed_is_read_in_whole_seconds() {
        for (value, read) in
            [("1795706156.615989892", Some(1_795_706_156)), ("-5.25", Some(-5)), ("soon", None)]
        {
            let mut data = Vec::new();
            write(&mut data, b"ctime", value.as_bytes());
            assert_eq!(Pax::read(&data).unwrap().ctime, read, "{value}");
        }
    }

    #[test]
    fn a_size_that_is_none_is_no_header() {
        for size in ["abc", "5x", "-5", "+5", ""] {
            let mut data = Vec::new();
            write(&mut data, b"size", size.as_bytes());
            assert!(Pax::read(&data).is_none() || size.is_empty() && decimal(b"").is_none(), "{size}");
        }
        for bad in [
            &b"nonsense"[..],
            b"99 path=x\n",
            b"9 path=xy\n",
            b"0 \n",
            b"3 \n",
            b"18446744073709551616 a=b\n",
            b"8 path\n\n",
            b"7 a\0=b\n",
        ] {
            assert!(Pax::read(bad).is_none(), "{bad:?}");
        }
    }
}
