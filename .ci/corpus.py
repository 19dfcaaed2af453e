"""Compares a server with Chromium, libheif, libvips and ExifTool, image by image; `.ci/corpus` fetches the images.

Four kinds of difference are rows of the table:

  refused      the server refuses an image that a browser, libheif or libvips opens
  size         width and height are not those that Chromium shows; where it shows none, those of libheif, else ExifTool's,
               turned as its Orientation says
  form         `?w=160` is refused as damaged, or its picture is not that of the original
  place        with STRIP_GPS=true, what is served still says a position
"""

import base64
import collections
import fnmatch
import http.server
import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
import uuid

BINARY = os.environ["KEEPSAKE_BINARY"]
CORPUS = pathlib.Path(sys.argv[1])
WANTED = sys.argv[2:]
SUFFIXES = (
    "jpg jpeg jpe jfif mpo png apng gif webp avif bmp dib tif tiff ico cur heic heif hif heics avifs dng arw cr2 nef mp4"
).split()
# Made to crash or to exhaust a decoder. They are for fuzzing, not for asking other programs what is right.
HOSTILE = "*poc* *crash* *clusterfuzz* *fuzz* *oom* *timeout* *github_* *uaf_* *hbo_* *overflow* *bomb* *issue_* *CVE*".split()

# Rows that are as they should be, and why: kind, patterns of the path, reason.
EXPLAINED = [
    ("refused", "*/badheadersize.bmp", "its second header has a length that no program writes; Chromium does not open it either"),
    ("refused", "*/clipboard.dib", "a bitmap without the header of a file, as on a clipboard; Chromium does not open it either"),
    ("size", "*/clap_irot_imir_non_essential.avif", "Chromium refuses it, since properties are not marked as essential; AVIFs are cropped as Chromium crops them"),
    ("size", "*/hopper_unexpected.ico", "its directory and its bitmap say different sizes; the bitmap's counts, which decoders draw"),
    ("truncated", "*/IMG_1361.dng */shortfile.bmp */broken_data_stream.png */truncated_* */ultrahdr.jpg", "it was cut off by its authors, or its end is missing"),
    ("form", "*/ultrahdr.jpg */hopper_bad_exif.jpg", "its pixels are damaged; decoders fill up what is missing in their own ways"),
    ("form", "*/broken_data_stream.png */truncated_* */shortfile.bmp", "cut off or damaged: browsers draw what is there, and the kept decoder draws nothing"),
    ("form", "*/badrle.bmp", "the compressed pixels are damaged on purpose"),
    ("form", "*/apng/chunk_* */apng/sequence_* */apng/syntax_*", "an animation that breaks the rules; Chromium forgives it, the kept decoder refuses it"),
    ("form", "*/no_palette.gif", "without a table of colours the kept decoder has nothing to draw with"),
    ("form", "*/app13.jpg", "4 pixels wide, with two samples of colour in a row: Chromium's decoder repeats so few, the one here interpolates between them"),
    ("form", "*/hopper_unknown_pixel_mode.tif", "32 bits for each colour; libvips takes the numbers for those of 8 bits, so that all but 0 become 255; the form is like hopper.ppm, the same picture in 8 bits"),
    ("form", "*/multipage_multiple_frame_loop.tiff", "`vips thumbnail` shows the second page, which it takes for a smaller copy of the first; `vips copy` shows the first page, as the form does"),
    ("form", "*/tiff_strip_cmyk_jpeg.tif */tiff_strip_cmyk_16l_jpeg.tif */tiff_tiled_cmyk_jpeg.tif", "inks without a profile: libvips converts them by a profile of its own; the form is like what Chromium shows of pil_sample_cmyk.jpg, the same picture as a JPEG"),
    ("form", "*/rletopdown.bmp", "compressed and from the top down, which the format forbids"),
]

# Few, so that line art and dithering, which scalers draw in their own ways, come out alike.
SIDE = 8
# Of 255, on a picture of SIDE times SIDE pixels.
MOST_DIFFERENCE = 14


def run(*command, **options):
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **options)


class Server:
    def __init__(self, **settings):
        self.folder = tempfile.TemporaryDirectory()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        environment = dict(os.environ, DATA_DIR=self.folder.name, PORT=str(self.port), RUST_LOG="warn", **settings)
        self.log = open(CORPUS / f"server-{self.port}.log", "w")
        self.process = subprocess.Popen([BINARY], env=environment, stdout=self.log, stderr=self.log)
        for _ in range(600):
            try:
                if self.ask("/readyz")[0] == 200:
                    return
            except OSError:
                time.sleep(0.05)
        raise SystemExit("the server does not start")

    def ask(self, path, body=None, headers=None):
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data=body, headers=headers or {})
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as answer:
            return answer.code, answer.read()

    def upload(self, path):
        boundary = uuid.uuid4().hex
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="image{path.suffix}"\r\n\r\n'
        body = head.encode() + path.read_bytes() + f"\r\n--{boundary}--\r\n".encode()
        status, answer = self.ask("/api/upload", body, {"Content-Type": f"multipart/form-data; boundary={boundary}"})
        return status, json.loads(answer)

    def end(self):
        self.process.terminate()
        self.process.wait()
        self.log.close()
        self.folder.cleanup()


def in_chromium(pictures):
    """Width, height and the colours of SIDE * SIDE cells of each picture (a path, or None), as Chromium shows it on white."""
    found, done = {}, threading.Event()
    page = f"""<!doctype html><script>
    // A canvas would show whichever frame of an animation it has come to.
    const firstFrame = async (i) => {{
      for (const type of ['image/png', 'image/gif', 'image/webp', 'image/avif']) {{
        try {{
          const decoder = new ImageDecoder({{ data: await (await fetch('/picture/' + i)).arrayBuffer(), type }});
          await decoder.tracks.ready;
          if (decoder.tracks.selectedTrack.frameCount > 1) return (await decoder.decode({{ frameIndex: 0 }})).image;
          return null;
        }} catch {{ /* of another type */ }}
      }}
      return null;
    }};
    (async () => {{
      for (let i = 0; i < {len(pictures)}; i++) {{
        const image = new Image();
        image.src = '/picture/' + i;
        const came = await Promise.race([new Promise((f) => {{ image.onload = () => f(true); image.onerror = () => f(false); }}),
          new Promise((f) => setTimeout(() => f(false), 20000))]);
        const said = {{ i }};
        if (came) {{
          const shrink = Math.min(1, 1024 / Math.max(image.naturalWidth, image.naturalHeight));
          const [w, h] = [image.naturalWidth, image.naturalHeight].map((side) => Math.max(1, Math.round(side * shrink)));
          const pen = new OffscreenCanvas(w, h).getContext('2d');
          pen.fillStyle = 'white';
          pen.fillRect(0, 0, w, h);
          pen.imageSmoothingQuality = 'high';
          pen.drawImage(await firstFrame(i) ?? image, 0, 0, w, h);
          const drawn = pen.getImageData(0, 0, w, h).data, pixels = new Uint8Array({SIDE} * {SIDE} * 4);
          // The mean of each cell.
          const part = (at, side) => [Math.floor(at * side / {SIDE}), Math.max(Math.floor(at * side / {SIDE}) + 1, Math.ceil((at + 1) * side / {SIDE}))];
          for (let cell = 0; cell < {SIDE} * {SIDE}; cell++) {{
            const [[left, right], [top, bottom]] = [part(cell % {SIDE}, w), part(Math.floor(cell / {SIDE}), h)];
            for (let channel = 0; channel < 4; channel++) {{
              let sum = 0;
              for (let y = top; y < bottom; y++) for (let x = left; x < right; x++) sum += drawn[(y * w + x) * 4 + channel];
              pixels[cell * 4 + channel] = sum / ((right - left) * (bottom - top));
            }}
          }}
          Object.assign(said, {{ width: image.naturalWidth, height: image.naturalHeight, pixels: btoa(String.fromCharCode(...pixels)) }});
        }}
        await fetch('/said', {{ method: 'POST', body: JSON.stringify(said) }});
      }}
      await fetch('/done', {{ method: 'POST' }});
    }})();</script>"""

    class Pages(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def answer(self, body, kind):
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self):
            picture = pictures[int(self.path[9:])] if self.path.startswith("/picture/") else None
            if self.path == "/":
                self.answer(page.encode(), "text/html")
            elif picture:
                # Chromium looks at the bytes of an image, whatever its type.
                self.answer(pathlib.Path(picture).read_bytes(), "image/png")
            else:
                self.send_error(404)

        def do_POST(self):
            said = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.path == "/said":
                said = json.loads(said)
                if "width" in said:
                    found[said["i"]] = (said["width"], said["height"], base64.b64decode(said["pixels"]))
            else:
                done.set()
            self.answer(b"", "text/plain")

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    # Chromium hangs up once it has seen that a file is no image.
    server.handle_error = lambda *_: None
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        browser = subprocess.Popen(
            ["chromium", "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}",
             f"http://127.0.0.1:{server.server_port}/"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        ended = done.wait(1500)
        browser.terminate()
        browser.wait()
    server.shutdown()
    if not ended:
        raise SystemExit(f"Chromium came as far as {len(found)} of {len(pictures)} pictures")
    return [found.get(i) for i in range(len(pictures))]


def difference(one, other):
    return sum(abs(a - b) for a, b in zip(one, other)) * 4 / 3 / len(one)


def exif(paths, *options):
    """What ExifTool says of each path."""
    said = {}
    for start in range(0, len(paths), 200):
        part = [str(path) for path in paths[start:start + 200]]
        answer = run("exiftool", "-j", "-n", *options, *part).stdout
        said.update({entry["SourceFile"]: entry for entry in json.loads(answer or "[]")})
    return said


PLACE = re.compile(r"gps.*(latitude|longitude|position)|^(latitude|longitude)$|location ?iso6709|gpscoordinates", re.I)


def places(paths):
    """The tags of each path that say a position."""
    said = exif(paths, "-a", "-G1", "-ee", "-u")

    def of(entry):
        tags = ((name.split(":")[-1], value) for name, value in entry.items())
        return {f"{name}={value}" for name, value in tags if PLACE.search(name) and not name.endswith("Ref") and str(value).strip(" 0.:/")}

    return {path: of(entry) for path, entry in said.items()}


def by_libheif(path):
    """Width and height of the primary image."""
    found = re.search(r"image: (\d+)x(\d+) .*primary", run("heif-info", str(path)).stdout)
    return tuple(map(int, found.groups())) if found else None


def by_libvips(path, into):
    """A turned form as a PNG, where libvips makes one."""
    run("vips", "thumbnail", str(path), str(into), "160", "--size", "down")
    return into if into.exists() else None


def main():
    files = sorted(path for path in CORPUS.glob("*/**/*") if path.suffix[1:].lower() in SUFFIXES and path.is_file())
    files = [path for path in files if not any(fnmatch.fnmatchcase(path.name, pattern) for pattern in HOSTILE)]
    named = lambda path: str(path.relative_to(CORPUS))
    files = [path for path in files if not WANTED or any(word in named(path) for word in WANTED)]
    print(f"corpus: {len(files)} files", file=sys.stderr)
    work = pathlib.Path(tempfile.mkdtemp(dir=CORPUS))
    plain, stripping = Server(), Server(STRIP_GPS="true")
    rows, counts = [], collections.Counter()
    try:
        answers, forms, refused_forms, served = {}, {}, collections.Counter(), {}
        for number, path in enumerate(files):
            status, item = answers[path] = plain.upload(path)
            if status != 201:
                continue
            if item["type"] == "image":
                status, form = plain.ask(item["url"] + "?w=160", headers={"Accept": "image/jpeg,image/png"})
                if status == 200:
                    forms[path] = work / f"{number}.form"
                    forms[path].write_bytes(form)
                else:
                    forms[path] = json.loads(form)["detail"]
                    refused_forms[forms[path]] += 1
            status, item = stripping.upload(path)
            if status == 201:
                served[path] = work / f"{number}.served{path.suffix}"
                served[path].write_bytes(stripping.ask(item["url"])[1])

        print("corpus: asking the others", file=sys.stderr)
        said = exif(files, "-ImageWidth", "-ImageHeight", "-IFD0:Orientation", "-Orientation", "-FileType", "-Error")
        shown = dict(zip(files, in_chromium([str(path) for path in files])))
        before, after = places(files), places(list(served.values()))
        small = [path for path in files if isinstance(forms.get(path), pathlib.Path)]
        references = {}
        for number, path in enumerate(files):
            if shown[path] is None:
                references[path] = by_libvips(path, work / f"{number}.png")
        pictures = [str(forms[path]) for path in small] + [str(p) if p else None for p in references.values()]
        looked = in_chromium(pictures)
        looks = dict(zip(small, looked))
        looked_at_references = dict(zip(references, looked[len(small):]))

        for path in files:
            status, item = answers[path]
            name, says, browser = named(path), said.get(str(path), {}), shown[path]
            reference = looked_at_references.get(path)
            heif = by_libheif(path) if says.get("FileType") in ("HEIC", "HEIF", "AVIF") else None
            if status != 201:
                opened = [who for who, found in (("Chromium", browser), ("libheif", heif), ("libvips", reference)) if found]
                if opened:
                    rows.append(("refused", name, f"{', '.join(opened)} open it; {status} {item.get('detail')}"))
                counts["refused, as others do" if not opened else "refused"] += 1
                continue
            counts["kept"] += 1
            counts["kept as truncated"] += bool(item.get("truncated"))
            width, height, turn = says.get("ImageWidth"), says.get("ImageHeight"), says.get("Orientation", 1)
            by_exif = (height, width) if isinstance(turn, int) and turn > 4 else (width, height)
            right, by = (browser[:2], "Chromium") if browser else (heif, "libheif") if heif else (by_exif, "ExifTool")
            if None not in right and right != (item["width"], item["height"]):
                rows.append(("size", name, f"{item['width']} x {item['height']}; {by}: {right[0]} x {right[1]}"))
            if item.get("truncated"):
                rows.append(("truncated", name, f"{item['size']} bytes"))
            form = forms.get(path)
            pixels = browser or reference
            if isinstance(form, str) and form == "The image is damaged." and pixels:
                rows.append(("form", name, f"{form} {'Chromium' if browser else 'libvips'} opens it"))
            elif isinstance(form, pathlib.Path) and pixels and looks[path]:
                apart = difference(pixels[2], looks[path][2])
                if apart > MOST_DIFFERENCE:
                    rows.append(("form", name, f"differs by {apart:.0f} of 255 from {'Chromium' if browser else 'libvips'}"))
            left = after.get(str(served.get(path)), set())
            counts["with a place"] += bool(before.get(str(path)))
            if left:
                rows.append(("place", name, "; ".join(sorted(left))[:120]))
    finally:
        plain.end()
        stripping.end()

    def explained(kind, name):
        mine = ((patterns.split(), why) for of, patterns, why in EXPLAINED if of == kind)
        return next((why for patterns, why in mine if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)), None)

    rows = [(*row, explained(*row[:2])) for row in rows]
    lines = [f"{len(files)} files: " + ", ".join(f"{count} {what}" for what, count in sorted(counts.items())) + ".", ""]
    lines += ["Forms that were refused: " + "; ".join(f"{count} × {why}" for why, count in refused_forms.most_common()), ""]
    lines += ["Sources: " + ", ".join(sorted(path.read_text().strip() for path in CORPUS.glob("*/.whole"))), ""]
    lines += ["| Kind | File | What differs | Why that is so |", "|---|---|---|---|"]
    lines += [f"| {kind} | {name} | {what} | {why or '**unexplained**'} |" for kind, name, what, why in rows]
    table = "\n".join(lines) + "\n"
    (CORPUS / "table.md").write_text(table)
    print(table)
    for path in work.iterdir():
        path.unlink()
    work.rmdir()
    sys.exit(any(why is None for *_, why in rows))


main()
