//! Images that say where they were taken, and how they were held.

/// The Brandenburg Gate: 52° 30' 58.80" N, 13° 22' 40.20" E.
pub const LATITUDE: [u32; 6] = [52, 1, 30, 1, 5880, 100];
/// See [`LATITUDE`].
pub const LONGITUDE: [u32; 6] = [13, 1, 22, 1, 4020, 100];
/// How it was held: turned by a quarter, which is 6 in Exif.
pub const ORIENTATION: u16 = 6;
/// What took it.
pub const MAKE: &str = "Keepsake Cameras";

/// In which order the bytes of a number stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The least first: `II`.
    Little,
    /// The greatest first: `MM`.
    Big,
}

impl Order {
    fn bytes(self, number: u64, width: usize) -> Vec<u8> {
        match self {
            Self::Little => number.to_le_bytes()[..width].to_vec(),
            Self::Big => number.to_be_bytes()[8 - width..].to_vec(),
        }
    }
}

/// An entry of a TIFF's directory: its tag, its kind, how many values, and these as they are written.
pub type Entry = (u16, u16, u64, Vec<u8>);

/// A TIFF in the making: directories are put in behind each other, and the last of them is the first that is read.
#[derive(Clone, Debug)]
pub struct Tiff {
    /// In which order its numbers stand.
    pub order: Order,
    is_big: bool,
    bytes: Vec<u8>,
}

impl Tiff {
    /// One of the usual kind.
    pub fn new(order: Order) -> Self {
        let start = if order == Order::Little { b"II*\0" } else { b"MM\0*" };
        Self { order, is_big: false, bytes: [&start[..], &[0; 4]].concat() }
    }

    /// A BigTIFF.
    pub fn big(order: Order) -> Self {
        let start = if order == Order::Little { b"II+\0\x08\0\0\0" } else { b"MM\0+\0\x08\0\0" };
        Self { order, is_big: true, bytes: [&start[..], &[0; 8]].concat() }
    }

    fn width(&self) -> usize {
        if self.is_big { 8 } else { 4 }
    }

    /// An entry of numbers of this kind.
    pub fn entry(&self, tag: u16, kind: u16, numbers: &[u32]) -> Entry {
        let (width, each) = match kind {
            3 => (2, 1),
            // A rational is two numbers.
            5 => (4, 2),
            _ => (4, 1),
        };
        let value = numbers.iter().flat_map(|number| self.order.bytes(u64::from(*number), width)).collect();
        (tag, kind, (numbers.len() / each) as u64, value)
    }

    /// Puts a directory in, and says where it lies.
    pub fn directory(&mut self, entries: &[Entry], next: u32) -> u32 {
        let (at, width) = (self.bytes.len(), self.width());
        let mut values = at + if self.is_big { 8 } else { 2 } + entries.len() * (4 + 2 * width) + width;
        let (mut head, mut tail) =
            (self.order.bytes(entries.len() as u64, if self.is_big { 8 } else { 2 }), Vec::new());
        for (tag, kind, count, value) in entries {
            for (number, width) in [(u64::from(*tag), 2), (u64::from(*kind), 2), (*count, width)] {
                head.extend(self.order.bytes(number, width));
            }
            if value.len() <= width {
                head.extend(value);
                head.resize(head.len() + width - value.len(), 0);
            } else {
                head.extend(self.order.bytes(values as u64, width));
                tail.extend(value);
                values += value.len();
            }
        }
        head.extend(self.order.bytes(u64::from(next), width));
        self.bytes.extend([head, tail].concat());
        at as u32
    }

    /// Puts in the directory of a place.
    pub fn place(&mut self) -> u32 {
        let text = |tag, value: &[u8]| (tag, 2, value.len() as u64, value.to_vec());
        let entries = [
            (0, 1, 4, vec![2, 3, 0, 0]),
            text(1, b"N\0"),
            self.entry(2, 5, &LATITUDE),
            text(3, b"E\0"),
            self.entry(4, 5, &LONGITUDE),
            text(0x1d, b"2026:11:20\0"),
        ];
        self.directory(&entries, 0)
    }

    /// Ends the TIFF; the directory at `first` is its first.
    pub fn finish(mut self, first: u32) -> Vec<u8> {
        let width = self.width();
        let start = if self.is_big { 8 } else { 4 };
        self.bytes[start..start + width].copy_from_slice(&self.order.bytes(u64::from(first), width));
        self.bytes
    }
}

/// Exif as a camera writes it: what took the image, how it was held, when, and where.
pub fn exif(order: Order) -> Vec<u8> {
    exif_in(Tiff::new(order), &[])
}

/// Likewise, into a TIFF and with these entries more in its first directory, none of whose tags is higher than that of Exif.
pub fn exif_in(mut tiff: Tiff, more: &[Entry]) -> Vec<u8> {
    let place = tiff.place();
    let taken = tiff.directory(&[(0x9003, 2, 20, b"2026:11:20 08:00:00\0".to_vec())], 0);
    let mut entries = more.to_vec();
    entries.extend([
        (0x010f, 2, MAKE.len() as u64 + 1, format!("{MAKE}\0").into_bytes()),
        tiff.entry(0x0112, 3, &[u32::from(ORIENTATION)]),
        tiff.entry(0x8769, 4, &[taken]),
        tiff.entry(0x8825, 4, &[place]),
        // Something behind it: what PrintImageMatching leaves.
        (0xc4a5, 7, 4, b"0300".to_vec()),
    ]);
    entries.sort_by_key(|entry| entry.0);
    let first = tiff.directory(&entries, 0);
    tiff.finish(first)
}

/// A packet of XMP that says the same place, and who made the image.
pub const XMP: &str = "<?xpacket begin=\"\u{feff}\" id=\"W5M0MpCehiHzreSzNTczkc9d\"?>\n\
<x:xmpmeta xmlns:x=\"adobe:ns:meta/\"><rdf:RDF xmlns:rdf=\"http://www.w3.org/1999/02/22-rdf-syntax-ns#\">\n\
<rdf:Description xmlns:exif=\"http://ns.adobe.com/exif/1.0/\" exif:GPSLatitude=\"52,30.98N\" dc:creator='Ada'\n\
 drone-dji:GpsLongtitude = '13.3778' exif:GPSVersionID=\"2.3.0.0\">\n\
<exif:GPSLongitude>13,22.67E</exif:GPSLongitude><tiff:Orientation>6</tiff:Orientation>\n\
</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end=\"w\"?>";

/// A segment of a JPEG.
pub fn segment(marker: u8, content: &[u8]) -> Vec<u8> {
    let length = (content.len() + 2) as u16;
    [&[0xff, marker][..], &length.to_be_bytes(), content].concat()
}

/// A JPEG with these segments more.
pub fn jpeg_with(jpeg: &[u8], segments: &[Vec<u8>]) -> Vec<u8> {
    [&jpeg[..2], &segments.concat(), &jpeg[2..]].concat()
}

/// An APP1 of a JPEG with Exif in it.
pub fn app1(exif: &[u8]) -> Vec<u8> {
    segment(0xe1, &[b"Exif\0\0", exif].concat())
}

/// An APP1 of a JPEG with [`XMP`] in it.
pub fn app1_xmp() -> Vec<u8> {
    segment(0xe1, &[b"http://ns.adobe.com/xap/1.0/\0", XMP.as_bytes()].concat())
}

/// A chunk of a PNG.
pub fn chunk(name: &[u8; 4], content: &[u8]) -> Vec<u8> {
    let checked = [&name[..], content].concat();
    let checksum = crc32fast::hash(&checked);
    [&(content.len() as u32).to_be_bytes()[..], &checked, &checksum.to_be_bytes()].concat()
}

/// A PNG with these chunks more, behind its header.
pub fn png_with(png: &[u8], chunks: &[Vec<u8>]) -> Vec<u8> {
    [&png[..33], &chunks.concat(), &png[33..]].concat()
}
