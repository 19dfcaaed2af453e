//! The entropy-coded bits of a JPEG: Huffman codes and the values that follow them.

/// Codes of up to this many bits are looked up at once.
const FAST: u32 = 10;
/// Bits that [`Bits::refill`] guarantees: the longest code and the longest value.
const MOST: u32 = 32;

/// Set in an entry whose value is part of it.
const WITH_VALUE: u32 = 1 << 6;

/// A Huffman table.
pub(crate) struct Table {
    /// For the next [`FAST`] bits: in bits 0 to 5 the length of the code, in bits 8 to 15 its symbol. With
    /// [`WITH_VALUE`], the length includes that of the value, which is in the upper half. Zero for a longer code.
    fast: Box<[u32; 1 << FAST]>,
    /// For each length of a code, the first code of 16 bits that is longer.
    ends: [u32; 17],
    /// For each length, what to add to a code for the position of its symbol.
    offsets: [i32; 17],
    symbols: Vec<u8>,
}

impl Table {
    /// The table with so many codes of each length from 1 to 16, and these symbols; `None` if there are no such codes.
    pub(crate) fn new(counts: &[u8; 16], symbols: &[u8]) -> Option<Self> {
        let mut fast = Box::new([0; 1 << FAST]);
        let (mut ends, mut offsets) = ([0; 17], [0; 17]);
        let (mut code, mut position) = (0_u32, 0_usize);
        for length in 1..=16_u32 {
            let count = usize::from(counts[length as usize - 1]);
            offsets[length as usize] = position as i32 - code as i32;
            for symbol in symbols.get(position..position + count)? {
                if length <= FAST {
                    let first = (code << (FAST - length)) as usize;
                    for (low, entry) in fast.get_mut(first..first + (1 << (FAST - length)))?.iter_mut().enumerate() {
                        *entry = Self::entry(length, *symbol, low as u32);
                    }
                }
                code += 1;
            }
            if code > 1 << length {
                return None;
            }
            position += count;
            ends[length as usize] = code << (16 - length);
            code <<= 1;
        }
        Some(Self { fast, ends, offsets, symbols: symbols[..position].to_vec() })
    }

    /// The entry for a code that is followed by these bits.
    fn entry(length: u32, symbol: u8, low: u32) -> u32 {
        let (size, symbol_part) = (u32::from(symbol & 15), u32::from(symbol) << 8);
        let rest = FAST - length;
        if size == 0 || size > rest {
            return length | symbol_part;
        }
        let value = extend(low >> (rest - size), size);
        (length + size) | WITH_VALUE | symbol_part | (value as u32) << 16
    }
}

/// The value of `size` bits: those that begin with 0 are negative.
fn extend(bits: u32, size: u32) -> i32 {
    let negative = bits >> (size - 1) == 0;
    bits as i32 - if negative { (1 << size) - 1 } else { 0 }
}

/// The bits from a position in a scan up to the next marker. Behind that come zeros.
pub(crate) struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
    /// The next bits, from the highest on; below `count` of them, bits of the next byte may be set already.
    next: u64,
    count: u32,
    /// How many of the bits that were taken into `next` are not in the scan.
    missing: u32,
}

/// A symbol and its value; the value of a symbol without one is zero.
pub(crate) struct Coded {
    pub(crate) symbol: u8,
    pub(crate) value: i32,
}

impl<'a> Bits<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, next: 0, count: 0, missing: 0 }
    }

    /// The next symbol and the value that follows it; `None` if there is no such code.
    #[inline(always)]
    pub(crate) fn next(&mut self, table: &Table) -> Option<Coded> {
        if self.count < MOST {
            self.refill();
        }
        let entry = table.fast[(self.next >> (64 - FAST)) as usize];
        if entry & WITH_VALUE != 0 {
            self.skip(entry & 63);
            return Some(Coded { symbol: (entry >> 8) as u8, value: entry as i32 >> 16 });
        }
        let symbol = if entry != 0 {
            self.skip(entry & 63);
            (entry >> 8) as u8
        } else {
            self.long(table)?
        };
        let size = u32::from(symbol & 15);
        if size == 0 {
            return Some(Coded { symbol, value: 0 });
        }
        let value = extend((self.next >> (64 - size)) as u32, size);
        self.skip(size);
        Some(Coded { symbol, value })
    }

    #[inline(always)]
    fn skip(&mut self, bits: u32) {
        self.next <<= bits;
        self.count -= bits;
    }

    #[cold]
    fn long(&mut self, table: &Table) -> Option<u8> {
        let code = (self.next >> 48) as u32;
        let length = (FAST as usize + 1..=16).find(|length| code < table.ends[*length])?;
        let position = (code >> (16 - length)) as i32 + table.offsets[length];
        let symbol = *table.symbols.get(usize::try_from(position).ok()?)?;
        self.skip(length as u32);
        Some(symbol)
    }

    #[inline(always)]
    fn refill(&mut self) {
        if let Some(bytes) = self.bytes[self.at..].first_chunk() {
            let bytes = u64::from_be_bytes(*bytes);
            // No byte is 0xff.
            let inverted = !bytes;
            if inverted.wrapping_sub(0x0101_0101_0101_0101) & !inverted & 0x8080_8080_8080_8080 == 0 {
                self.next |= bytes >> self.count;
                let taken = (63 - self.count) / 8;
                self.at += taken as usize;
                self.count += taken * 8;
                return;
            }
        }
        self.refill_slowly();
    }

    #[inline(never)]
    fn refill_slowly(&mut self) {
        while self.count <= 56 {
            let byte = match self.bytes[self.at..] {
                [0xff, 0, ..] => {
                    self.at += 2;
                    0xff
                }
                [byte, ..] if byte != 0xff => {
                    self.at += 1;
                    byte
                }
                _ => {
                    self.missing += 8;
                    0
                }
            };
            self.next |= u64::from(byte) << (56 - self.count);
            self.count += 8;
        }
    }

    /// Whether more bits were used than there are.
    pub(crate) fn is_overrun(&self) -> bool {
        self.missing > self.count
    }

    /// Continues behind the restart marker of this number, which must be next.
    pub(crate) fn restart(&mut self, number: u8) -> Option<()> {
        self.refill_slowly();
        if self.is_overrun() || self.count - self.missing >= 8 {
            return None;
        }
        let fill = self.bytes[self.at..].iter().take_while(|byte| **byte == 0xff).count();
        let marker = *self.bytes.get(self.at + fill)?;
        if fill == 0 || marker != 0xd0 + number {
            return None;
        }
        *self = Self { at: self.at + fill + 1, ..Self::new(self.bytes) };
        Some(())
    }
}
