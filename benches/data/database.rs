//! A database's dump, as `pg_dump` writes a table: rows of ids, times, names, tokens and text.
//!
//! It shrinks as such dumps do (`zstd -3`: about 5.5 times) by what is alike in neighbouring rows. No row comes twice,
//! so a tool that looks for equal pieces finds none.

use std::io::{Result, Write};

use super::{Random, tar};

const FIRST: [&str; 32] = [
    "Ada",
    "Alan",
    "Amara",
    "Anders",
    "Barbara",
    "Carlos",
    "Chen",
    "Dorothy",
    "Edsger",
    "Elena",
    "Fatima",
    "Frances",
    "Grace",
    "Hedy",
    "Hiroshi",
    "Ingrid",
    "Ivan",
    "Joan",
    "John",
    "Katherine",
    "Ken",
    "Lars",
    "Linus",
    "Margaret",
    "Maria",
    "Niklaus",
    "Olga",
    "Priya",
    "Radia",
    "Sofia",
    "Tim",
    "Yukihiro",
];
const LAST: [&str; 32] = [
    "Allen",
    "Andersson",
    "Backus",
    "Berners-Lee",
    "Chandra",
    "Dijkstra",
    "Fernandez",
    "Goldberg",
    "Hamilton",
    "Hopper",
    "Ivanova",
    "Johnson",
    "Kaur",
    "Kowalski",
    "Lamarr",
    "Liskov",
    "Lovelace",
    "Matsumoto",
    "Mbeki",
    "Nakamura",
    "Novak",
    "Okafor",
    "Perlman",
    "Ritchie",
    "Rossi",
    "Schmidt",
    "Silva",
    "Thompson",
    "Torvalds",
    "Turing",
    "Vaughan",
    "Wirth",
];
const STATUS: [&str; 4] = ["shipped", "pending", "delivered", "returned"];
const WAREHOUSE: [&str; 8] = [
    "Rotterdam/Maasvlakte",
    "Hamburg/Altenwerder",
    "Antwerp/Kallo",
    "Singapore/Tuas",
    "Felixstowe/Trinity",
    "Valencia/Principe Felipe",
    "Gdansk/Baltic Hub",
    "Piraeus/Ikonio",
];
const NOTE: [&str; 32] = [
    "Customer asked for delivery on a weekday before noon.",
    "Left with the concierge if nobody is there.",
    "Second attempt: the address was corrected by telephone.",
    "The parcel goes out again with the next truck.",
    "The pallet was opened by customs and sealed again.",
    "The protocol is attached to the shipping documents.",
    "Fragile: do not stack, do not tilt.",
    "Keep between five and twenty-five degrees during storage and transport.",
    "Paid in advance by bank transfer.",
    "The invoice was sent to the accounting department of the parent company.",
    "Partial delivery was agreed on.",
    "What is missing follows without further charge as soon as it is in stock.",
    "Returned because of a damaged box.",
    "The contents were found to be in order and went back to the shelf.",
    "Replacement under warranty, no charge.",
    "The broken unit is to be collected from the customer at delivery.",
    "Consolidated with two other orders of the same customer to save freight.",
    "The discount was already granted.",
    "Express surcharge applies.",
    "The driver calls thirty minutes before arrival at the number on the waybill.",
    "Hazardous goods, class 9.",
    "Papers were checked and signed by the officer on duty before loading began.",
    "Waiting for an export licence from the authorities.",
    "Reminders were sent on the first and the fifteenth.",
    "The buyer collects at the gate with a pick-up slip.",
    "Identity card and signature are required, no exceptions.",
    "The temperature log shows no gap.",
    "The container was plugged in at all times from the plant to the terminal.",
    "Quantity differs from the order by one unit.",
    "The customer accepted this by mail and the invoice was changed.",
    "Nothing to report.",
    "Proof of delivery with a photograph is on file.",
];

const COPY: &str = "--\n-- PostgreSQL database dump\n--\n\nSET statement_timeout = 0;\nSET client_encoding = 'UTF8';\n\n\
    COPY public.shipments (id, created_at, customer, email, status, amount, phone, token, attributes, note) \
    FROM stdin;\n";

/// Writes a tar of `size` bytes, of which the headers are a few: the dump is its only member.
pub fn database(size: u64, out: &mut impl Write) -> Result<()> {
    let len = size.saturating_sub(tar::OVERHEAD) / 512 * 512;
    tar::header("backup/shipments.sql", len, out)?;
    let mut rows = Rows { random: Random::new(4), id: 48_120_344, seconds: 0 };
    let mut text = COPY.as_bytes().to_vec();
    let mut left = len as usize;
    while left > 0 {
        while text.len() < left.min(256 << 10) {
            rows.row(&mut text);
        }
        let now = text.len().min(left);
        out.write_all(&text[..now])?;
        left -= now;
        text.clear();
    }
    tar::end(out)
}

struct Rows {
    random: Random,
    id: u64,
    /// Since the first row's day began.
    seconds: u64,
}

impl Rows {
    /// Appends the next row. Not by `write!`, which takes longer than compressing does.
    fn row(&mut self, text: &mut Vec<u8>) {
        let random = &mut self.random;
        self.id += 1 + random.below(2);
        self.seconds += random.below(3);
        let (first, last) = (random.pick(&FIRST), random.pick(&LAST));
        decimal(self.id, 8, text);
        text.push(b'\t');
        time(self.seconds, random.below(1_000_000), text);
        for field in
            ["\t", first, " ", last, "\t", first, ".", last, "@example.com\t", random.pick(&STATUS), "\t"]
        {
            text.extend_from_slice(field.as_bytes());
        }
        decimal(random.below(100_000), 5, text);
        text.push(b'.');
        decimal(random.below(100), 2, text);
        text.extend_from_slice(b"\t+31 10 ");
        decimal(random.below(10_000_000), 7, text);
        text.push(b'\t');
        hex(random.next(), text);
        hex(random.next(), text);
        for field in [
            "\t{\"warehouse\": \"",
            random.pick(&WAREHOUSE),
            "\", \"carrier\": \"northern lines\", \"parcels\": ",
        ] {
            text.extend_from_slice(field.as_bytes());
        }
        decimal(1 + random.below(8), 1, text);
        for field in [", \"insured\": true}\t", random.pick(&NOTE), " ", random.pick(&NOTE), "\n"] {
            text.extend_from_slice(field.as_bytes());
        }
    }
}

/// `2026-11-22 02:03:04.056789+00`
fn time(seconds: u64, micros: u64, text: &mut Vec<u8>) {
    let (day, minute) = (seconds / 86_400, seconds / 60);
    text.extend_from_slice(b"2026-");
    decimal(1 + day / 28 % 12, 2, text);
    text.push(b'-');
    decimal(1 + day % 28, 2, text);
    text.push(b' ');
    decimal(minute / 60 % 24, 2, text);
    text.push(b':');
    decimal(minute % 60, 2, text);
    text.push(b':');
    decimal(seconds % 60, 2, text);
    text.push(b'.');
    decimal(micros, 6, text);
    text.extend_from_slice(b"+00");
}

fn decimal(mut value: u64, digits: usize, text: &mut Vec<u8>) {
    let from = text.len();
    text.resize(from + digits, b'0');
    for digit in text[from..].iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

/// Sixteen digits.
fn hex(value: u64, text: &mut Vec<u8>) {
    text.extend((0..16).map(|i| b"0123456789abcdef"[(value >> (4 * i) & 15) as usize]));
}
