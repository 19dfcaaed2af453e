#!/usr/bin/env bash
# One would guess that a browser shows an AVIF cropped as its `clap` property says, as libavif and libheif do, so that
# naturalWidth is the width of the crop. Chromium does so only where the crop begins in the upper left corner; with any
# other crop it shows the whole image. (Debian's Chromium 156 and libavif-bin 0.11.1.)
#
# Makes three AVIFs of 64 x 48 pixels with avifenc: whole, cropped to 30 x 20 at 0,0, and cropped to 30 x 20 at 10,10. Prints
# what Chromium says of each, and ends with 1 where that is not 64x48, 30x20, 64x48. Needs Debian's chromium, libavif-bin
# and Python 3; installs nothing else.
set -euo pipefail

for tool in chromium:chromium avifenc:libavif-bin; do
    command -v "${tool%%:*}" >/dev/null || apt-get install --quiet --yes --no-install-recommends "${tool##*:}" >&2
done
work=$(mktemp --directory)
trap 'rm -rf "$work"' EXIT
cd "$work"
chromium --version
avifenc --version | head -1
python3 - <<'PNG'
import struct, zlib
chunk = lambda name, data: struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
rows = b"".join(b"\0" + bytes(v for x in range(64) for v in (x * 4, y * 5, 90)) for y in range(48))
head = struct.pack(">IIBBBBB", 64, 48, 8, 2, 0, 0, 0)
open("a.png", "wb").write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))
PNG
avifenc a.png whole.avif >/dev/null
avifenc --crop 0,0,30,20 a.png corner.avif >/dev/null
avifenc --crop 10,10,30,20 a.png middle.avif >/dev/null
for name in whole corner middle; do
    printf '<img data-name="%s" src="data:image/avif;base64,%s">' "$name" "$(base64 --wrap=0 "$name.avif")"
done >page.html
cat >>page.html <<'JS'
<script>onload = () => { document.title = ''; document.body.textContent =
  [...document.images].map((i) => `${i.dataset.name} ${i.naturalWidth}x${i.naturalHeight}`).join(', '); };</script>
JS
found=$(chromium --headless=new --no-sandbox --disable-gpu --user-data-dir="$work/profile" --dump-dom "file://$work/page.html" 2>/dev/null |
    grep --only-matching 'whole [0-9x]*, corner [0-9x]*, middle [0-9x]*')
echo "$found"
[[ $found == 'whole 64x48, corner 30x20, middle 64x48' ]]
