"""What .ci/places does once the tools and the server are there."""

import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from pathlib import Path

from PIL import Image, ImageOps, PngImagePlugin

# The position: 12.3456 N, 98.7654 E, in the sea. No other value of these files looks like it.
NAMES = re.compile(r"GPS|Latitude|Longitude|Coordinates|LocationInformation|FootprintWKT|\b(Geo)?(Lat|Long|Lon|Alt)\b", re.I)
NUMBERS = re.compile(r"12[.,]34|98[.,]76|12,20\.|98,45\.|12/1, ?20/1|12 deg|98 deg|12:20:44")
# Tags of the file and the tool, what a text or a box becomes that went as a whole, and names without a value.
IGNORED = re.compile(r"^\[(System|ExifTool)\]|Unknown_(free|blNk)|: Warning|: ?[. ]*$", re.I)
XMP_GPS = ["-XMP-exif:GPSLatitude=12.3456", "-XMP-exif:GPSLongitude=98.7654"]
EXIF_GPS = ["-GPSLatitude=12.3456", "-GPSLatitudeRef=N", "-GPSLongitude=98.7654", "-GPSLongitudeRef=E"]
OTHERS = ["-Orientation#=6", "-Make=Keepsake Cameras", "-XMP-dc:Creator=Ada", "-XMP-tiff:Orientation#=6"]


def run(*command, **options):
    done = subprocess.run([str(part) for part in command], capture_output=True, **options)
    if done.returncode:
        sys.exit(f"places: {command[0]} failed: {' '.join(map(str, command))}\n{done.stderr.decode(errors='replace')}")
    return done.stdout


def exiftool(*arguments):
    run("exiftool", "-q", "-q", "-m", "-overwrite_original", *arguments)


def make(folder):
    """Makes the files, each named after what wrote it."""
    picture = Image.new("RGB", (64, 48))
    picture.putdata([(x * 4, y * 5, (x ^ y) * 3) for y in range(48) for x in range(64)])
    plain = {}
    for suffix in ["jpg", "png", "tif", "webp", "gif"]:
        plain[suffix] = folder.parent / f"plain.{suffix}"
        picture.save(plain[suffix])
    plain["mp4"] = folder.parent / "plain.mp4"
    run("ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc=size=64x48:rate=5:duration=1", "-pix_fmt", "yuv420p", plain["mp4"])
    plain["avif"] = folder.parent / "plain.avif"
    run("ffmpeg", "-v", "error", "-i", plain["png"], "-frames:v", "1", "-pix_fmt", "yuv420p", plain["avif"])

    def start(name, suffix=None):
        path = folder / name
        path.write_bytes(plain[suffix or path.suffix[1:]].read_bytes())
        return path

    # ExifTool.
    for suffix in ["jpg", "png", "tif", "webp", "avif"]:
        exiftool(*EXIF_GPS, *XMP_GPS, *OTHERS, start(f"exiftool.{suffix}"))
    exiftool("-api", "Compress=1", *EXIF_GPS, *XMP_GPS, *OTHERS, start("exiftool-compressed.png"))
    exiftool("-api", "Compact=Shorthand", *XMP_GPS, *OTHERS, start("exiftool-attributes.jpg"))
    exiftool(*XMP_GPS, "-XMP-dc:Creator=Ada", start("exiftool.gif"))
    exiftool(
        "-XMP-dwc:DCDecimalLatitude=12.3456", "-XMP-dwc:DCDecimalLongitude=98.7654", "-XMP-dwc:DCVerbatimCoordinates=12.3456 98.7654",
        "-XMP-dwc:DCFootprintWKT=POINT (98.7654 12.3456)", "-XMP-drone-dji:Latitude=12.3456", "-XMP-drone-dji:GPSLongtitude=98.7654",
        "-XMP-iptcExt:LocationCreatedGPSLatitude=12.3456", "-XMP-iptcExt:LocationCreatedGPSLongitude=98.7654", *OTHERS,
        start("exiftool-vocabularies.jpg"))
    long = "-XMP-dc:Description=" + "a long description, " * 4000
    exiftool(*EXIF_GPS, *XMP_GPS, *OTHERS, long, start("exiftool-extended-xmp.jpg"))
    for group in ["Keys", "UserData", "ItemList", "XMP-exif"]:
        given = XMP_GPS if group.startswith("XMP") else [f"-{group}:GPSCoordinates=12.3456, 98.7654, 10"]
        exiftool(*given, "-Keys:Make=Keepsake Cameras", start(f"exiftool-{group.lower()}.mp4"))
    exiftool(*EXIF_GPS, "-GPSDestLatitude=12.3456", "-GPSAreaInformation=12.3456", "-GPSProcessingMethod=GPS", *OTHERS, start("exiftool-more.jpg"))

    # FFmpeg.
    run("ffmpeg", "-v", "error", "-i", plain["mp4"], "-c", "copy", "-metadata", "location=+12.3456+098.7654/", folder / "ffmpeg.mp4")
    run("ffmpeg", "-v", "error", "-i", plain["mp4"], "-c", "copy", "-movflags", "use_metadata_tags", "-metadata",
        "com.apple.quicktime.location.ISO6709=+12.3456+098.7654/", "-metadata", "title=by the sea", folder / "ffmpeg-keys.mp4")

    # ImageMagick.
    for suffix in ["png", "webp", "tif", "jpg"]:
        run("convert", folder / "exiftool.jpg", folder / f"imagemagick.{suffix}")
    run("convert", folder / "exiftool.jpg", "-define", "png:exclude-chunk=eXIf", "-define", "png:include-chunk=zTXt", folder / "imagemagick-profiles.png")
    run("convert", folder / "exiftool.jpg", "-set", "exif:GPSLatitude", "12/1, 20/1, 1104/25 " + " " * 3000, folder / "imagemagick-long-text.png")

    # libvips.
    for suffix in ["png", "webp", "tif", "jpg"]:
        run("vips", "copy", folder / "exiftool.jpg", folder / f"libvips.{suffix}")

    # Pillow.
    exif = Image.open(folder / "exiftool.jpg").getexif().tobytes()
    xmp = run("exiftool", "-b", "-XMP", folder / "exiftool.jpg")
    for suffix in ["jpg", "png", "webp"]:
        picture.save(folder / f"pillow.{suffix}", exif=exif, **({"xmp": xmp} if suffix == "webp" else {}))
    texts = PngImagePlugin.PngInfo()
    texts.add_itxt("XML:com.adobe.xmp", xmp.decode(), zip=True)
    texts.add_text("Latitude", "12.3456")
    texts.add_text("Longitude", "98.7654", zip=True)
    texts.add_itxt("exif:GPSPosition", "12.3456 98.7654")
    texts.add_text("Title", "by the sea")
    picture.save(folder / "pillow-texts.png", pnginfo=texts)

    # exiv2.
    for suffix in ["jpg", "png", "tif", "webp"]:
        path = start(f"exiv2.{suffix}")
        run("exiv2", "-M", "set Exif.GPSInfo.GPSLatitude 12/1 20/1 4416/100", "-M", "set Exif.GPSInfo.GPSLatitudeRef N",
            "-M", "set Exif.GPSInfo.GPSLongitude 98/1 45/1 5544/100", "-M", "set Exif.GPSInfo.GPSLongitudeRef E",
            "-M", "set Xmp.exif.GPSLatitude 12,20.736N", "-M", "set Xmp.exif.GPSLongitude 98,45.924E",
            "-M", "set Xmp.dc.source sea",
            "-M", "set Exif.Image.Orientation 6", "-M", "set Exif.Image.Make Keepsake", path)

    run("exiv2", "-M", "reg geo http://www.w3.org/2003/01/geo/wgs84_pos#", "-M", "reg dwc http://rs.tdwg.org/dwc/terms/",
        "-M", "set Xmp.geo.lat 12.3456", "-M", "set Xmp.geo.long 98.7654", "-M", "set Xmp.dwc.decimalLatitude 12.3456",
        "-M", "set Xmp.dwc.decimalLongitude 98.7654", "-M", "set Xmp.dc.source sea", start("exiv2-vocabularies.jpg"))

    # Several pictures, or a picture and a video, in one file.
    both = folder / "motion-photo.jpg"
    both.write_bytes((folder / "exiftool.jpg").read_bytes() + (folder / "exiftool-keys.mp4").read_bytes())
    two = folder / "two-pictures.jpg"
    two.write_bytes(plain["jpg"].read_bytes() + (folder / "exiftool.jpg").read_bytes())
    return sorted(folder.iterdir())


def found(path):
    lines = run("exiftool", "-s", "-a", "-G1", "-ee", "-u", "-n", "-m", path).decode(errors="replace").splitlines()
    return [re.sub(r"\s+", " ", line) for line in lines if not IGNORED.search(line)]


def is_position(line):
    name = line.split(" : ")[0]
    return bool(NAMES.search(name) or NUMBERS.search(line))


def embedded(path):
    """The video behind a picture and a second picture, which ExifTool reads as files of their own only."""
    bytes_ = path.read_bytes()
    parts = [bytes_]
    if path.suffix == ".jpg":
        if (at := bytes_.find(b"ftyp")) > 4:
            parts.append(bytes_[at - 4:])
        if path.name == "two-pictures.jpg":
            parts.append(bytes_[bytes_.find(b"\xff\xd8\xff", 4):])
    return parts


def pixels(path):
    if path.suffix in [".mp4", ".avif"]:
        return run("ffmpeg", "-v", "error", "-i", path, "-f", "framemd5", "-")
    with Image.open(path) as image:
        image.load()
        turned = ImageOps.exif_transpose(image)
        return turned.size, turned.mode, hashlib.sha256(turned.tobytes()).hexdigest()


class Server:
    def __init__(self, folder):
        self.data = folder / "data"
        self.token = uuid.uuid4().hex
        greeting = folder / "greeting"
        environment = {
            "HOST": "127.0.0.1", "PORT": "0", "DATA_DIR": str(self.data), "API_TOKEN": self.token, "STRIP_GPS": "true",
            "RUST_LOG": "warn", "LOG_FORMAT": "text", "RATE_LIMIT": "0",
        }
        with greeting.open("wb") as out:
            self.process = subprocess.Popen([os.environ["KEEPSAKE_BINARY"]], env=environment, stdout=out, stderr=out)
        for _ in range(300):
            if serves := re.search(rb"serves (http://127\.0\.0\.1:\d+)", greeting.read_bytes()):
                self.origin = serves[1].decode()
                return
            if self.process.poll() is not None:
                break
            time.sleep(0.1)
        sys.exit(f"places: the server does not start: {greeting.read_text()}")

    def round_trip(self, path):
        """Uploads a file; returns what lies on the disk and what is sent."""
        boundary = uuid.uuid4().hex
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="{path.name}"\r\n\r\n'
        body = head.encode() + path.read_bytes() + f"\r\n--{boundary}--\r\n".encode()
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": f"multipart/form-data; boundary={boundary}"}
        request = urllib.request.Request(self.origin + "/api/upload", body, headers)
        url = json.load(urllib.request.urlopen(request, timeout=30))["url"]
        answer = urllib.request.urlopen(self.origin + url, timeout=30)
        sent = answer.read()
        assert int(answer.headers["content-length"]) == len(sent)
        return (self.data / "uploads" / url.rsplit("/", 1)[1]).read_bytes(), sent


def check(server, path, back):
    """What is wrong with what comes back of this file."""
    stored, sent = server.round_trip(path)
    back.write_bytes(sent)
    wrong = []
    if stored != path.read_bytes():
        wrong.append("the bytes on the disk are not those that were sent")
    if len(sent) != len(stored):
        wrong.append(f"{len(sent)} bytes came back of {len(stored)}")
    had = 0
    for number, (before, after) in enumerate(zip(embedded(path), embedded(back))):
        one, other = back.parent / f"before{path.suffix}", back.parent / f"after{path.suffix}"
        one.write_bytes(before)
        other.write_bytes(after)
        before, after = found(one), found(other)
        had += sum(map(is_position, before))
        wrong += [f"part {number} still has {line}" for line in after if is_position(line)]
        expected, kept = ([line for line in lines if not is_position(line)] for lines in (before, after))
        wrong += [f"part {number} lost {line}" for line in expected if line not in kept]
        wrong += [f"part {number} gained {line}" for line in kept if line not in expected]
    if not had:
        wrong.append("ExifTool finds no position in what was sent")
    if pixels(path) != pixels(back):
        wrong.append("it shows another picture")
    return had, wrong


def main(wanted):
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        for folder in ["files", "back"]:
            (work / folder).mkdir()
        files = [path for path in make(work / "files") if not wanted or any(word in path.name for word in wanted)]
        server = Server(work)
        failed = 0
        try:
            for path in files:
                had, wrong = check(server, path, work / "back" / path.name)
                print(f"{'wrong' if wrong else 'ok':5}  {path.name}: {had} tags of a position before", flush=True)
                for line in wrong:
                    print(f"         {line[:200]}", flush=True)
                failed += bool(wrong)
        finally:
            server.process.terminate()
            server.process.wait()
        print(f"places: {len(files) - failed} of {len(files)} files are right")
        return 1 if failed or not files else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
