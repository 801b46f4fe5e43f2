//! Members whose holes are left out of the data: where the map of it stands.

use super::{Member, State, Walker, refused};
use crate::error::Result;
use crate::tar::header::{self, number};
use crate::tar::sparse::{self, Map, Reading};
use crate::tar::{BLOCK, pax};

impl Walker {
    /// GNU tar's own sparse header, or star's.
    pub(super) fn old_sparse(
        &mut self,
        block: &[u8],
        mut member: Box<Member>,
    ) -> Result<Option<Box<Member>>> {
        let (fields, continues, real_size, counted) = if header::is_gnu(block) {
            (&block[386..482], block[482] != 0, &block[483..495], false)
        } else if header::is_star(block) && block[345] == 0 && block[366] != 0 {
            (&block[356..452], block[355] != 0, &block[452..464], true)
        } else if header::is_star(block) {
            (&block[..0], true, &block[452..464], true)
        } else {
            return Err(refused(&member, "it says that it is sparse, but not where its data is"));
        };
        let mut map = Map { real_size: number(real_size).unwrap_or(member.data), pieces: Vec::new() };
        map.add_fields(fields, continues).ok_or_else(|| refused(&member, sparse::UNFIT))?;
        (member.entry.sparse, member.entry.size, member.map) = (true, map.real_size, Some(map));
        if continues {
            self.pending = Some(member);
            self.state = State::SparseBlocks { counted };
            return Ok(None);
        }
        self.fitting(member).map(Some)
    }

    pub(super) fn sparse_block(&mut self, block: &[u8], counted: bool) -> Result<Option<Box<Member>>> {
        let Some(mut member) = self.pending.take() else { return Ok(None) };
        let continues = block[504] != 0;
        match counted {
            true => {
                member.data =
                    member.data.checked_sub(BLOCK as u64).ok_or_else(|| refused(&member, sparse::UNFIT))?
            }
            false => member.entry.len = member.entry.len.saturating_add(BLOCK as u64),
        }
        let added = member.map.as_mut().and_then(|map| map.add_fields(&block[..504], continues));
        added.ok_or_else(|| refused(&member, sparse::UNFIT))?;
        if continues {
            self.pending = Some(member);
            return Ok(None);
        }
        self.fitting(member).map(Some)
    }

    /// GNU's sparse files in pax headers: the map among the records, or before the data.
    pub(super) fn pax_sparse(
        &mut self,
        mut member: Box<Member>,
        own: pax::Sparse,
    ) -> Result<Option<Box<Member>>> {
        let global = &self.global.sparse;
        let real_size = own.real_size.or(global.real_size);
        let (map, major) = (own.map.or_else(|| global.map.clone()), own.major.or(global.major).unwrap_or(0));
        let Some(real_size) = real_size else {
            return match (map, major) {
                (None, 0) => Ok(Some(self.begin(member))),
                _ => Err(refused(&member, "it says that it is sparse, but not its size")),
            };
        };
        (member.entry.sparse, member.entry.size) = (true, real_size);
        match (map, major) {
            (Some(numbers), 0) => {
                member.map = Map::of_numbers(real_size, &numbers);
                self.fitting(member).map(Some)
            }
            (_, 1) => {
                self.pending = Some(member);
                self.state = State::SparseText(Reading::default());
                Ok(None)
            }
            _ => Err(refused(&member, "it says that it is sparse, but not where its data is")),
        }
    }

    pub(super) fn sparse_text(&mut self, block: &[u8]) -> Result<Option<Box<Member>>> {
        let State::SparseText(reading) = &mut self.state else { return Ok(None) };
        let Some(mut member) = self.pending.take() else { return Ok(None) };
        let unfit = |member: &Member| refused(member, sparse::UNFIT);
        member.data = member.data.checked_sub(BLOCK as u64).ok_or_else(|| unfit(&member))?;
        match reading.block(block, member.entry.size).ok_or_else(|| unfit(&member))? {
            Some(map) => {
                member.map = Some(map);
                self.fitting(member).map(Some)
            }
            None => {
                self.pending = Some(member);
                Ok(None)
            }
        }
    }

    /// A sparse member whose map is complete.
    fn fitting(&mut self, member: Box<Member>) -> Result<Box<Member>> {
        match member.map.as_ref().is_some_and(|map| map.fits(member.data)) {
            true => Ok(self.begin(member)),
            false => Err(refused(&member, sparse::UNFIT)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use crate::tar::testing::{END, header, member, pax_header, walk, with_data};

    /// GNU's magic, and a file of 32 KiB whose data is where `fields` says.
    fn gnu_sparse(size: usize, continues: bool, fields: &str) -> Vec<u8> {
        header("sparse", b'S', size, |block| {
            block[257..265].copy_from_slice(b"ustar  \0");
            block[386..386 + fields.len()].copy_from_slice(fields.as_bytes());
            block[482] = continues.into();
            block[483..494].copy_from_slice(b"00000100000");
        })
    }

    #[test]
    fn an_old_gnu_sparse_map_is_not_taken_for_data() {
        let four: String =
            (0..4).map(|n| format!("{:011o}\0{:011o}\0", n * 8192, if n < 2 { 512 } else { 0 })).collect();
        let mut map = vec![0u8; BLOCK];
        map[504] = 1;
        map[..24].copy_from_slice(b"00000100000\x0000000000000\0");
        let whole = |first: Vec<u8>, blocks: &[&[u8]]| {
            [&first[..], &blocks.concat(), &member("next", b'0', b""), &END].concat()
        };
        let data = [5; 1024];
        let mut last = map.clone();
        last[504] = 0;
        let (found, end) = walk(&whole(gnu_sparse(1024, true, &four), &[&last, &data]), 300);
        end.unwrap();
        assert_eq!(found.iter().map(|e| (e.size, e.len)).collect::<Vec<_>>(), [(32768, 2048), (0, 512)]);
        // A map that ends, and is said to go on; data that is not as long as the map says.
        map.fill(0);
        map[504] = 1;
        for bad in [
            whole(gnu_sparse(1024, true, &four), &[&map, &last, &data]),
            whole(gnu_sparse(512, false, &four), &[&data[..512]]),
        ] {
            assert_eq!(walk(&bad, 512).1.unwrap_err().kind(), Kind::Refused);
        }
    }

    #[test]
    fn stars_sparse_file_counts_its_map_as_data() {
        let first = header("sp", b'S', 1024, |block| {
            block[355] = 1;
            for n in 0..4 {
                let field = format!("{:011o} {:011o} ", n * 512, if n == 0 { 512 } else { 0 });
                block[356 + 24 * n..380 + 24 * n].copy_from_slice(field.as_bytes());
            }
            block[452..464].copy_from_slice(b"00000100000 ");
            block[476..500].copy_from_slice(b"00000000000 00000000000 ");
        });
        let tar = [with_data(first, &[0; 1024]), member("after", b'0', b""), END.to_vec()].concat();
        let (found, end) = walk(&tar, 700);
        end.unwrap();
        let places: Vec<_> = found.iter().map(|e| (e.path.as_str(), e.size, e.sparse, e.len)).collect();
        assert_eq!(places, [("sp", 32768, true, 1536), ("after", 0, false, 512)]);
    }

    #[test]
    fn a_map_before_the_data_must_fit_it() {
        let sparse = |map: &str, data: usize| {
            let size = (512 + data).to_string();
            let records = [
                ("GNU.sparse.major", "1"),
                ("GNU.sparse.name", "sp"),
                ("GNU.sparse.realsize", "8192"),
                ("size", &size),
            ];
            let mut bytes = map.as_bytes().to_vec();
            bytes.resize(512 + data, 7);
            walk(&[pax_header(b'x', &records), member("x", b'0', &bytes), END.to_vec()].concat(), 333)
        };
        let (found, end) = sparse("1\n4096\n512\n", 512);
        end.unwrap();
        assert_eq!((found[0].path.as_str(), found[0].size, found[0].sparse), ("sp", 8192, true));
        // GNU tar would take the headers behind it for its data.
        for (map, data) in
            [("1\n4096\n512\n", 0), ("2\n0\n512\n512\n512\n", 512), ("x\n", 512), ("1\n8000\n512\n", 512)]
        {
            assert_eq!(sparse(map, data).1.unwrap_err().kind(), Kind::Refused, "{map:?}");
        }
    }
}
