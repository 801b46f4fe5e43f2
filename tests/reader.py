#!/usr/bin/env python3
"""An independent reader of on-store formats 1 and 2, as docs/FORMAT.md describes it: Python's standard library, gpg and zstd.

    reader.py list FOLDER           the members of the newest archive in a job's folder, a line each
    reader.py cat FOLDER MEMBER     a member's bytes: only the frames that hold them are read and decrypted

SEALIFT_PASSPHRASE_FILE names the file with the passphrase. AES and BLAKE3 work on many blocks at once, whose words at
the same place are one big number: so plain Python takes seconds, not minutes.
"""
import gzip, hashlib, json, lzma, os, re, struct, subprocess, sys
from pathlib import Path


def check(condition, what):
    if not condition:
        sys.exit(f"reader.py: {what}")

# ---- AES-256, encryption only (FIPS 197)
def double(byte):
    return byte << 1 ^ (byte >> 7) * 0x11B

def substitution():
    powers, box = [1], bytearray([0x63] * 256)
    while len(powers) < 255:
        powers.append(powers[-1] ^ double(powers[-1]))
    for i, power in enumerate(powers):
        inverse = powers[-i % 255] * 0x101
        box[power] = 0x63 ^ (inverse ^ inverse >> 4 ^ inverse >> 5 ^ inverse >> 6 ^ inverse >> 7) & 0xFF
    return bytes(box)

SBOX = substitution()
SBOX_DOUBLED = bytes(map(double, SBOX))

def round_keys(key):
    words, constant = [key[i:i + 4] for i in range(0, 32, 4)], 1
    for i in range(8, 60):
        word = words[-1]
        if i % 8 == 0:
            word = (word[1:] + word[:1]).translate(SBOX)
            word, constant = bytes([word[0] ^ constant]) + word[1:], constant * 2
        elif i % 8 == 4:
            word = word.translate(SBOX)
        words.append(bytes(a ^ b for a, b in zip(words[i - 8], word)))
    return [b"".join(words[i:i + 4]) for i in range(0, 60, 4)]

def aes256(key, blocks):
    n, number = len(blocks) // 16, lambda text: int.from_bytes(text, "little")
    ones, (first, *keys) = number(b"\1" * n), round_keys(key)
    state = [(number(blocks[i::16]) ^ first[i] * ones).to_bytes(n, "little") for i in range(16)]
    for round_key in keys:
        # Byte i of a block is row i % 4 of column i // 4; a row is shifted by its number.
        state = [state[(i + 4 * (i % 4)) % 16] for i in range(16)]
        a = [number(text.translate(SBOX)) for text in state]
        if round_key is not keys[-1]:
            d, at = [number(text.translate(SBOX_DOUBLED)) for text in state], lambda i, r: i // 4 * 4 + (i + r) % 4
            a = [d[i] ^ d[at(i, 1)] ^ a[at(i, 1)] ^ a[at(i, 2)] ^ a[at(i, 3)] for i in range(16)]
        state = [(a[i] ^ round_key[i] * ones).to_bytes(n, "little") for i in range(16)]
    return bytes(byte for block in zip(*state) for byte in block)

# ---- BLAKE3
IV = (0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19)
PERMUTATION = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)
MIXES = [(i, i + 4, i + 8, i + 12) for i in range(4)] + [(0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14)]
START, END, PARENT, ROOT, KEYED, CONTEXT, MATERIAL = 1, 2, 4, 8, 16, 32, 64

def lanes(words):
    return int.from_bytes(struct.pack(f"<{len(words)}Q", *words), "little")

def compress(n, cv, m, counter, length, flags):
    """For n inputs at once; the chaining values cv and what comes out are a tuple for each word."""
    ones, mask = lanes([1] * n), lanes([0xFFFFFFFF] * n)
    v = [*map(lanes, cv), *(word * ones for word in IV[:4]), counter, 0, length * ones, flags * ones]
    turn = lambda x, by: (x >> by | x << 32 - by) & mask
    for _ in range(7):
        for i, (a, b, c, d) in enumerate(MIXES):
            for word, d_by, b_by in (m[2 * i], 16, 12), (m[2 * i + 1], 8, 7):
                v[a] = v[a] + v[b] + word & mask
                v[d] = turn(v[d] ^ v[a], d_by)
                v[c] = v[c] + v[d] & mask
                v[b] = turn(v[b] ^ v[c], b_by)
        m = [m[i] for i in PERMUTATION]
    return [struct.unpack(f"<{n}Q", (v[i] ^ v[i + 8]).to_bytes(8 * n, "little")) for i in range(8)]

def chunks(data, n, first, key, flags, root):
    """The chaining values of n chunks of equal length, numbered from `first`."""
    size, blocks, cv = len(data) // n, max(1, -(-len(data) // n // 64)), [[word] * n for word in key]
    words = struct.unpack(f"<{n * blocks * 16}I", data.ljust(n * blocks * 64, b"\0"))
    for b in range(blocks):
        m = [lanes(words[16 * b + j::16 * blocks]) for j in range(16)]
        edges = START * (b == 0) | (END | root) * (b == blocks - 1)
        cv = compress(n, cv, m, lanes(range(first, first + n)), min(64, size - 64 * b), flags | edges)
    return cv

def blake3(data, key=struct.pack("<8I", *IV), flags=0):
    key, full = struct.unpack("<8I", key), max(0, len(data) - 1) // 1024
    values = chunks(data[full * 1024:], 1, full, key, flags, 0 if full else ROOT)
    if full:
        values = [a + b for a, b in zip(chunks(data[:full * 1024], full, 0, key, flags, 0), values)]
    while (n := len(values[0])) > 1:
        even, cv, root = n // 2 * 2, [[word] * (n // 2) for word in key], ROOT if n == 2 else 0
        m = [lanes(word[side:even:2]) for side in (0, 1) for word in values]
        parents = compress(n // 2, cv, m, 0, 64, flags | PARENT | root)
        values = [parent + word[even:] for parent, word in zip(parents, values)]
    return struct.pack("<8I", *(word[0] for word in values))

# ---- the format
def in_packet(offset, body):
    """Where a byte of a packet's body lies, counted from the packet's first length."""
    part, full = offset >> 20, body >> 20
    return offset + (part + 1 if part < full else full + 5)

def without_lengths(framed, start, end, body):
    """Bytes start..end of a packet's body, of the packet's bytes from the first of them on."""
    edges = [start, *range((start >> 20) + 1 << 20, end, 1 << 20), end]
    at = [in_packet(edge, body) - in_packet(start, body) for edge in edges]
    return b"".join(framed[at[i]:at[i] + edges[i + 1] - edges[i]] for i in range(len(at) - 1))

def gpg(data, *arguments):
    words = ["--batch", "--pinentry-mode", "loopback", "--passphrase-file", os.environ["SEALIFT_PASSPHRASE_FILE"]]
    return subprocess.run(["gpg", *words, *arguments, "-d"], input=data, capture_output=True)

def unzstd(data):
    return subprocess.run(["zstd", "-dcq"], input=data, capture_output=True, check=True).stdout

class Message:
    """An object with one OpenPGP message, and `stored` bytes of compressed stream in it."""
    def __init__(self, path, head, stored, size, skesk=None):
        self.object, self.head, self.literal = Path(path).open("rb"), head, 6 + stored
        self.skesk = skesk or self.range(0, head)
        self.body = 1 + 18 + 1 + self.literal + (self.literal >> 20) + 5 + 22
        whole = head + self.body + (self.body >> 20) + 5
        check(whole == size == os.fstat(self.object.fileno()).st_size, "the object has another size")

    def range(self, start, end):
        return os.pread(self.object.fileno(), end - start, start)

    def session(self):
        """gpg shows it for any message with the object's SKESK: here one whose SEIPD packet is cut to 40 bytes."""
        body = self.head + in_packet(0, self.body)
        shown = gpg(self.skesk + b"\x28" + self.range(body, body + 40), "--show-session-key").stderr
        return bytes.fromhex(re.search(rb"session key: '9:([0-9A-F]{64})'", shown)[1].decode())

    def data(self, start, end, session):
        """Bytes start..end of the compressed stream."""
        first, last = (18 + 1 + in_packet(6 + data, self.literal) for data in (start, end - 1))
        block = first // 16 * 16
        place = [self.head + in_packet(1 + plain, self.body) for plain in (block - 16, last)]
        cipher = without_lengths(self.range(place[0], place[1] + 1), 1 + block - 16, 1 + last + 1, self.body)
        stream = aes256(session, cipher[:(len(cipher) - 1) // 16 * 16])
        plain = bytes(a ^ b for a, b in zip(cipher[16:], stream))
        return without_lengths(plain[first - block:], 6 + start, 6 + end, self.literal)

def keyed_hash(context, session, id, numbers, stored):
    key, id = blake3(session, blake3(context, flags=CONTEXT), MATERIAL), id.encode()
    bound = struct.pack("<Q", len(id)) + id + struct.pack(f"<{len(numbers)}Q", *numbers)
    return blake3(bound + stored, key, KEYED).hex()

def frame_of(value):
    """Format 1 writes an object, format 2 an array."""
    names = ("n", "at", "len", "stored_at", "stored_len", "blake3", "ref")
    return {"ref": 0} | (value if isinstance(value, dict) else dict(zip(names, value)))

class Archive:
    def __init__(self, folder):
        self.folder, text = Path(folder), max(Path(folder).glob("*.manifest.json")).read_bytes()
        before, _, own = text.rpartition(b',"self":"')
        check(own.decode() == hashlib.sha256(before).hexdigest() + '"}\n', "the manifest is damaged")
        manifest = json.loads(text)
        self.id, suffix = manifest["id"], manifest["suffix"]
        check(manifest["format"] in (1, 2) and suffix.endswith(".gpg"), "another format, or no SEIPD v1")
        self.catalog = self.folder / (self.id + ".catalog.zst.gpg")
        opened, key, self.heads = self.opened()
        self.stream, self.lines = opened.stdout, unzstd(opened.stdout)
        records = [next(iter(json.loads(line).items())) for line in self.lines.splitlines()]
        (first, head), *middle, (last, end) = [(kind, value) for kind, value in records if kind != "page"]
        check((first, last) == ("archive", "end"), "the catalog is not whole")
        check(all(head[key] == manifest[key] for key in ("format", "id", "job")), "the catalog is another's")
        if head["format"] == 2:
            self.check_pages([value for kind, value in records if kind == "page"])
        refs, frames, self.entries = ([r for kind, r in middle if kind == wanted] for wanted in ("ref", "frame", "entry"))
        frames = [frame_of(frame) for frame in frames]
        self.frames = {n: [frame for frame in frames if frame["ref"] == n] for n in range(len(refs) + 1)}
        at = stored = 0
        for n, frame in enumerate(self.frames[0]):
            check((frame["n"], frame["at"], frame["stored_at"]) == (n, at, stored), "the frames have gaps")
            at, stored = at + frame["len"], stored + frame["stored_len"]
        kept = sum("ref" in entry for entry in self.entries)
        totals = end["frames"], end["entries"], end["bytes"], end.get("kept", {"entries": 0})["entries"]
        check(totals == (len(self.frames[0]), len(self.entries) - kept, at, kept), "the catalog's totals are wrong")
        self.refs = {ref["n"]: ref for ref in refs}
        self.refs[0] = head | {"suffix": suffix, "data_len": stored, "stored_bytes": end["stored_bytes"]}
        message = self.message(0)
        if key:
            sessions = message.session() + self.catalog_message().session()
            proof = keyed_hash(b"sealift 2026-11-27 key object", sessions, self.id, [], key[:98])
            check(proof == key[98:].hex(), "the key object is another's")

    def opened(self):
        """The catalog by its own head, or by that of a key object, the newest first."""
        sealed = self.catalog.read_bytes()
        keys = [path.read_bytes() for path in sorted(self.folder.glob(self.id + ".key-*.skesk"), reverse=True)]
        for key in [None, *(key for key in keys if len(key) == 130)]:
            heads = (key[:49], key[49:98]) if key else (None, sealed[:49])
            opened = gpg(heads[1] + sealed[49:])
            if opened.returncode == 0:
                return opened, key, heads
        sys.exit("reader.py: the passphrase does not open the catalog")

    def catalog_message(self):
        return Message(self.catalog, 49, len(self.stream), self.catalog.stat().st_size, self.heads[1])

    def message(self, n):
        ref = self.refs[n]
        path = self.folder / (ref["id"] + ref["suffix"])
        check(path.exists(), f"{path.name} is needed")
        return Message(path, ref["head_len"], ref["data_len"], ref["stored_bytes"], None if n else self.heads[0])

    def check_pages(self, pages):
        """The index at the end names all pages, which are all that there is."""
        magic, size, at, length = struct.unpack("<IIQQ", self.stream[-56:-32])
        check((magic, size) == (0x184D2A53, 48), "the catalog has no index")
        session = self.catalog_message().session()
        def opened(at, length, expected):
            stored, context = self.stream[at:at + length], b"sealift 2026-11-26 format 2 page hash"
            check(keyed_hash(context, session, self.id, [at], stored) == expected, "a page is not what was sealed")
            return unzstd(stored)
        index = opened(at, length, self.stream[-32:].hex())
        lines = b"".join(opened(page["at"], page["len"], page["blake3"]) for page in pages)
        check(lines + index == self.lines, "the index is another's")

    def source(self, n, start, end):
        """Bytes start..end of the source of one of its archives, from the frames that hold them."""
        ref, message, out = self.refs[n], self.message(n), b""
        session = bytes.fromhex(ref["session"]) if n else message.session()
        unpack = {"zstd": unzstd, "gzip": gzip.decompress, "xz": lzma.decompress, "none": bytes}[ref["codec"]]
        for frame in self.frames[n]:
            numbers = number, at, size = frame["n"], frame["at"], frame["len"]
            if at < end and start < at + size:
                stored = message.data(frame["stored_at"], frame["stored_at"] + frame["stored_len"], session)
                own = keyed_hash(b"sealift 2026-11-22 format 1 frame hash", session, ref["id"], numbers, stored)
                check(own == frame["blake3"], f"frame {number} is not what was sealed")
                out += unpack(stored)[max(0, start - at):end - at]
        check(len(out) == end - start, "the catalog lacks frames")
        return out

def name(entry):
    return bytes.fromhex(entry["path_hex"]) if "path_hex" in entry else entry["path"].encode()

def member(archive, wanted):
    entry = next((entry for entry in reversed(archive.entries) if name(entry) == wanted), None)
    check(entry, "no such member")
    if entry["type"] == "link":
        return member(archive, entry["link"].encode())
    check(entry["type"] == "file" and "sparse" not in entry, "no file, or one with holes")
    start = entry["at"] + entry["len"] - -(-entry["size"] // 512) * 512
    return archive.source(entry.get("ref", 0), start, start + entry["size"])

if __name__ == "__main__":
    verb, archive = sys.argv[1], Archive(sys.argv[2])
    listed = b"".join(name(entry) + b"\n" for entry in archive.entries)
    sys.stdout.buffer.write(listed if verb == "list" else member(archive, os.fsencode(sys.argv[3])))
