"""What schemathesis has to be told besides the document: how bytes are made that a route takes, and which names there are.

Without this nearly all it sends would be refused at the first look.
"""

import hashlib
import io
import json
import os
import struct
import urllib.request
import zipfile
import zlib

import schemathesis
from hypothesis import strategies as st


def png(width, height, comment):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = zlib.compress((b"\0" + b"\x7f\0\0" * width) * height)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"tEXt", b"Comment\0" + comment) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def archive(files):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as zipped:
        for name, data in files.items():
            zipped.writestr(zipfile.ZipInfo(name), data)
    return out.getvalue()


images = st.builds(png, st.integers(1, 40), st.integers(1, 40), st.binary(max_size=8).map(lambda b: b.hex().encode()))
names = st.text("abcdefgh", min_size=1, max_size=8).map(lambda name: f"uploads/{name}.png")
schemathesis.openapi.media_type("image/*", images | st.binary(max_size=64))
schemathesis.openapi.media_type("application/partial-upload", st.binary(max_size=64))
schemathesis.openapi.media_type("application/zip", st.dictionaries(names, images, max_size=3).map(archive) | st.binary(max_size=64))


def send(method, path, body=None, **headers):
    headers = {"Authorization": "Bearer " + os.environ["KEEPSAKE_TOKEN"], **{n.replace("_", "-"): v for n, v in headers.items()}}
    return urllib.request.urlopen(urllib.request.Request(os.environ["KEEPSAKE_ORIGIN"] + path, body, headers, method=method))


def ask(method, path, body=None, **headers):
    with send(method, path, body, **headers) as answer:
        return json.load(answer)


def ticket(number):
    """A ticket that was issued, and the bytes that it is for."""
    image = png(8, number + 1, b"ticket")
    asked = {"filename": "t.png", "contentType": "image/png", "size": len(image), "sha256": hashlib.sha256(image).hexdigest()}
    issued = ask("POST", "/api/upload/tickets", json.dumps(asked).encode(), Content_Type="application/json")
    return issued["id"], issued["uploadUrl"].partition("secret=")[2], image


def begun(number):
    """An upload of which the first bytes are here."""
    with send("POST", "/api/upload", png(9, number + 1, b"begun")[:30], Content_Type="image/png", Upload_Complete="?0") as answer:
        return answer.headers["Location"].rpartition("/")[2]


GROUPS = ["g0", "g1", "g2"]
for number in range(12):
    path = f"/api/upload?description=image%20{number}&groupId={GROUPS[number % 3]}"
    ask("POST", path, png(2, number + 1, b"first"), Content_Type="image/png")
BACKUPS = [ask("POST", "/api/backup")["backupName"] for _ in range(3)]
IMAGES = [image["id"] for image in ask("GET", "/api/images?flat=true")["images"]]
TICKETS = [ticket(number) for number in range(8)]
BEGUN = [begun(number) for number in range(8)]


def there(case, lot):
    """Something that was there at the start and that this route may be asked for."""
    if not case.path.startswith("/api/upload/"):
        places = {"/api/backups/": BACKUPS, "/api/restore/": BACKUPS, "/api/groups/": GROUPS}
        names = next((names for place, names in places.items() if case.path.startswith(place)), IMAGES)
        return names[lot % len(names)]
    if case.method in ("GET", "PATCH", "DELETE"):
        return BEGUN[lot % len(BEGUN)]
    id, secret, image = TICKETS[lot % len(TICKETS)]
    if case.method == "PUT" and lot % 3:
        case.query, case.body, case.media_type = {"secret": secret}, image, "image/png"
    return id


@schemathesis.hook
def map_case(context, case):
    """Every other name becomes that of something that is there, and most bytes for a ticket are its own."""
    if case.meta is not None and case.meta.phase.name == "stateful":
        # Names come from earlier answers there.
        return case
    if isinstance(case.body, dict) and case.path.startswith("/api/groups/") and "files" in case.body:
        case.body["files"] = IMAGES[: len(case.body["files"])] if isinstance(case.body["files"], list) else case.body["files"]
    for name, value in (case.path_parameters or {}).items():
        lot = zlib.crc32(repr(value).encode())
        if lot % 2:
            case.path_parameters[name] = there(case, lot // 2)
    return case
