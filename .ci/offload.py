#!/usr/bin/env python3
"""What clients get of images that a proxy sends (OFFLOAD), beside what the server sends itself: `.ci/proxies` runs it.

The server has just started behind the proxy. Each response of the proxy must have the same status, the same bytes and the
same headers as the server's own, which the first request for an image gets, because nobody has read the file through yet.
"""

import argparse
import hashlib
import http.client
import json
import socket
import ssl
import sys
import urllib.parse
from pathlib import Path

# Of the connection and of the moment, or added by the proxy.
OWN = {"alt-svc", "connection", "date", "server", "via", "x-request-id", "transfer-encoding", "keep-alive"}
IMAGE = Path("docs/images/gallery-phone.png").read_bytes()
LARGE = IMAGE + bytes(range(256)) * 16_384
TOKEN = {"Authorization": "Bearer right"}

options = argparse.ArgumentParser()
for option in ["proxy", "name", "port", "direct", "data", "odd", "location"]:
    options.add_argument(f"--{option}", required=True)
options = options.parse_args()


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.body = status, body
        self.headers = {}
        for name, value in headers:
            self.headers.setdefault(name.lower(), []).append(value)

    def __getitem__(self, name):
        return ", ".join(self.headers.get(name, []))

    def kept(self):
        kept = {name: ", ".join(values) for name, values in self.headers.items() if name not in OWN}
        # Caddy adds it to every file.
        vary = [part for part in kept.pop("vary", "").split(", ") if part.lower() not in ("", "accept-encoding")]
        return kept | ({"vary": ", ".join(vary)} if vary else {})


class Through(http.client.HTTPSConnection):
    """A connection to the proxy, whatever the name resolves to."""

    def connect(self):
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        self.sock = context.wrap_socket(socket.create_connection(("127.0.0.1", int(options.port))), server_hostname=options.name)


def send(connection, method, path, headers, body=None):
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    whole = Answer(answer.status, answer.getheaders(), answer.read())
    connection.close()
    return whole


def ask(path, method="GET", body=None, **headers):
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    host = {"Host": f"{options.name}:{options.port}"}
    return send(Through(options.name, timeout=30), method, path, headers | host, body)


def ask_server(path, **headers):
    host, port = urllib.parse.urlsplit(options.direct).netloc.split(":")
    return send(http.client.HTTPConnection("127.0.0.1", int(port), timeout=30), "GET", path, {"Host": host} | headers)


def check(what, found, expected):
    if found != expected:
        short = [repr(value) if len(repr(value)) < 2_000 else f"{len(value)} bytes" for value in (found, expected)]
        sys.exit(f"proxies: {options.proxy}: {what}: {short[0]} instead of {short[1]}")


def upload(image):
    headers = TOKEN | {"Content-Type": "image/png", "Accept": "text/plain"}
    answer = ask("/api/upload", "POST", image, **headers)
    check("an upload", answer.status, 201)
    return urllib.parse.urlsplit(answer.body.decode()).path


def is_left_to_the_proxy(path):
    """Asks the server itself, past the proxy. A damaged large image as a whole would break off."""
    answer = ask_server(path, Range="bytes=0-1")
    return answer["x-accel-redirect"].startswith(f"/{options.location}/") and answer.body == b""


def sent_alike(path, image):
    first = ask(path)
    check(f"{path} for the first time", (first.status, first.body), (200, image))
    check(f"{path}: left to the proxy", is_left_to_the_proxy(path), True)
    for query, headers in [("", {}), ("?download=1", {}), ("", {"Origin": "https://friend.example"})]:
        # A HEAD is never left to the proxy.
        expected, answer = ask(path + query, "HEAD", **headers), ask(path + query, **headers)
        check(f"{path + query}: another origin", answer["access-control-allow-origin"], headers.get("Origin", ""))
        check(f"{path + query}", (answer.status, answer.body), (200, image))
        check(f"{path + query}: headers", answer.kept(), expected.kept())
        check(f"{path + query}: HEAD", (expected.status, expected.body, expected["content-length"]), (200, b"", str(len(image))))
    check(f"{path}: several of one header", [n for n, v in ask(path).headers.items() if len(v) > 1 and n != "vary"], [])
    etag, uploaded, size = first["etag"], first["last-modified"], len(image)

    for value, start, end in [("bytes=0-1", 0, 2), ("bytes=100-199", 100, 200), ("bytes=-5", size - 5, size), ("bytes=0-", 0, size)]:
        part = ask(path, Range=value)
        check(f"{path}: {value}", (part.status, part.body), (206, image[start:end]))
        check(f"{path}: {value}", part["content-range"], f"bytes {start}-{end - 1}/{size}")
        # nginx leaves out Accept-Ranges, which a 206 says by itself.
        of_the_part = {"content-range": "", "content-length": "", "accept-ranges": ""}
        check(f"{path}: {value}: headers", part.kept() | of_the_part, first.kept() | of_the_part)
    beyond = ask(path, Range=f"bytes={size}-")
    check(f"{path}: a range beyond the end", (beyond.status, beyond["content-range"]), (416, f"bytes */{size}"))

    past, future = "Fri, 20 Nov 2020 08:00:00 GMT", "Fri, 20 Nov 2099 08:00:00 GMT"
    for headers, status in [
        ({"If-None-Match": etag}, 304),
        ({"If-None-Match": f'"other", W/{etag}'}, 304),
        ({"If-None-Match": "*"}, 304),
        ({"If-None-Match": '"other"'}, 200),
        ({"If-Match": etag}, 200),
        ({"If-Match": "*"}, 200),
        ({"If-Match": '"other"'}, 412),
        ({"If-Modified-Since": uploaded}, 304),
        ({"If-Modified-Since": future}, 304),
        ({"If-Modified-Since": past}, 200),
        ({"If-None-Match": '"other"', "If-Modified-Since": future}, 200),
        ({"If-Unmodified-Since": uploaded}, 200),
        ({"If-Unmodified-Since": past}, 412),
        ({"Range": "bytes=0-1", "If-Range": etag}, 206),
        ({"Range": "bytes=0-1", "If-Range": '"other"'}, 200),
        ({"Range": "bytes=0-1", "If-Range": f"W/{etag}"}, 200),
        ({"Range": "bytes=0-1", "If-Range": past}, 200),
        ({"Range": "bytes=0-1", "If-None-Match": etag}, 304),
        ({"Range": "bytes=0-1", "If-Match": etag}, 206),
    ]:
        answer = ask(path, **headers)
        check(f"{path}: {headers}", answer.status, status)
        check(f"{path}: {headers}: ETag", answer["etag"], "" if status == 412 else etag)
        if status in (200, 206):
            check(f"{path}: {headers}", answer.body, image if status == 200 else image[:2])
    several = ask(path, Range="bytes=0-1,5-6")
    check(f"{path}: two ranges", several.status in (200, 206) and image[:2] in several.body, True)
    print(f"proxies: {options.proxy}: {path}, {size} bytes: the proxy sends what the server would send")


def file_of(path):
    return Path(options.data, "uploads", urllib.parse.unquote(path.rsplit("/", 1)[1]))


def not_sent_if_wrong(path, image):
    file = file_of(path)
    whole = bytearray(image)
    whole[len(image) // 2] ^= 1
    file.write_bytes(whole)
    # The server looks at the file once a second.
    while is_left_to_the_proxy(path):
        pass
    check(f"{path}: a range of a damaged file", ask(path, Range="bytes=7-8").body, image[7:9])
    for _ in range(3):
        answer = ask(path)
        check(f"{path}: damaged", (answer.status, answer.body), (200, image))
    file.unlink()
    while is_left_to_the_proxy(path):
        pass
    for _ in range(3):
        check(f"{path}: missing", ask(path, Range="bytes=7-8").body, image[7:9])
    deleted = ask(path.replace("/uploads/", "/api/images/"), "DELETE", **TOKEN)
    check(f"{path}: DELETE", deleted.status, 200)
    gone = ask(path)
    check(f"{path}: deleted", (gone.status, json.loads(gone.body)["type"], gone["cache-control"]), (404, "no-such-image", "no-store"))
    print(f"proxies: {options.proxy}: {path}: no damaged, missing or deleted file is sent")


if options.location == "internal-uploads":
    for image in [IMAGE, LARGE]:
        path = upload(image)
        sent_alike(path, image)
        # No client reaches the folder, and none switches the proxy to another file.
        for below in [f"/internal-uploads/{file_of(path).name}", "/internal-uploads/.keepsake/", "/internal-uploads/../image-metadata.json"]:
            asked = ask(below)
            check(below, (asked.status, image in asked.body), (404, False))
        headers = {"X-Accel-Redirect": "/internal-uploads/../image-metadata.json", "X-Sendfile": "/etc/passwd", "X-Sendfile-Type": "X-Sendfile"}
        check("headers of the proxy from a client", hashlib.sha256(ask(path, **headers).body).digest(), hashlib.sha256(image).digest())
        not_sent_if_wrong(path, image)
    sent_alike(f"/uploads/{urllib.parse.quote(options.odd)}", IMAGE)
else:
    # The proxy finds no file.
    path = upload(IMAGE)
    check(path, ask(path).body, IMAGE)
    check(f"{path}: left to the proxy", is_left_to_the_proxy(path), True)
    answer = ask(path)
    check("what the proxy says of a file that it does not find", (answer.status, "no-store" in answer["cache-control"]), (404, True))
    print(f"proxies: {options.proxy}: a file that the proxy does not find is not cached as missing")
