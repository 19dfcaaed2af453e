"""Uses one folder by two servers and compares what they give out with what they acknowledged.

    filesystems.py BINARY FOLDER [UPLOADS]

Four clients upload over both servers; images are edited, backed up, deleted and restored; one server is killed while
uploads are under way and started again. After each step both servers must give out every acknowledged image byte for
byte. Prints one line of figures; exits 1 where anything was wrong, and 2 where a server does not start.
"""

import json
import os
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
import zlib

CLIENTS = 4


def png():
    """A small image with content of its own."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + os.urandom(30) for _ in range(10))
    header = struct.pack(">IIBBBBB", 10, 10, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


class Server:
    """A server on a free port; `start` may be called again after `kill`."""

    def __init__(self, binary, folder, log):
        self.binary, self.folder, self.log = binary, folder, log
        self.start()

    def start(self):
        environment = {"PATH": os.environ["PATH"], "RUST_LOG": "error", "RESERVE_BYTES": "1MiB"}
        arguments = [self.binary, "--port", "0", "--data-dir", self.folder]
        errors = open(self.log, "ab")
        self.process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=errors, env=environment, text=True)
        for line in self.process.stdout:
            if " serves http" in line:
                self.url = line.split()[-1]
                return
        sys.stderr.write(open(self.log).read())
        sys.exit(2)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def request(self, method, path, body=None, kind="application/json"):
        """The status and the body; the status is 0 where no answer came."""
        request = urllib.request.Request(self.url + path, data=body, method=method, headers={"Content-Type": kind})
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()
        except OSError as error:
            return 0, str(error).encode()


class Trial:
    def __init__(self, binary, folder, logs):
        self.servers = [Server(binary, folder, f"{logs}/{n}") for n in range(2)]
        self.acknowledged, self.faults, self.slowest = {}, [], 0.0
        self.lock = threading.Lock()

    def expect(self, what, wanted, status, body):
        if status != wanted:
            self.faults.append(f"{what}: {status} {body[:200]}")

    def upload(self, server, count):
        for _ in range(count):
            image, begun = png(), time.monotonic()
            status, body = server.request("POST", "/api/upload", image, "image/png")
            with self.lock:
                self.slowest = max(self.slowest, time.monotonic() - begun)
                if status == 201:
                    self.acknowledged[json.loads(body)["id"]] = image
                elif status != 0:
                    self.faults.append(f"an upload: {status} {body[:200]}")

    def begin_uploads(self, count):
        clients = [
            threading.Thread(target=self.upload, args=(self.servers[n % 2], count // CLIENTS)) for n in range(CLIENTS)
        ]
        for client in clients:
            client.start()
        return clients

    def compare(self, after):
        for number, server in enumerate(self.servers):
            for image, sent in self.acknowledged.items():
                status, body = server.request("GET", f"/uploads/{image}")
                if (status, body) != (200, sent):
                    self.faults.append(f"after {after}, server {number} answers {status} for {image}: {body[:100]}")

    def run(self, uploads):
        first, second = self.servers
        for client in self.begin_uploads(uploads):
            client.join()
        self.compare("uploads")
        images = list(self.acknowledged)
        for number, image in enumerate(images[:10]):
            edit = json.dumps({"description": f"number {number}"}).encode()
            self.expect("an edit", 200, *self.servers[number % 2].request("PATCH", f"/api/images/{image}", edit))
        status, body = first.request("POST", "/api/backup")
        self.expect("a backup", 201, status, body)
        for number, image in enumerate(images[:5]):
            self.expect("a delete", 200, *self.servers[number % 2].request("DELETE", f"/api/images/{image}"))
            self.expect("a deleted image", 404, *self.servers[1 - number % 2].request("GET", f"/uploads/{image}"))
        status, body = second.request("POST", f"/api/restore/{json.loads(body).get('backupName')}")
        self.expect("a restore", 200, status, body)
        self.compare("a restore")
        clients = self.begin_uploads(max(uploads // 10, CLIENTS))
        clients[1].join(timeout=1)
        first.kill()
        for client in clients:
            client.join()
        first.start()
        self.compare("a kill")
        self.expect("a verification", 200, *second.request("POST", "/api/verify"))
        for server in self.servers:
            server.process.terminate()
            server.process.wait()


def main():
    binary, folder = sys.argv[1:3]
    with tempfile.TemporaryDirectory() as logs:
        trial = Trial(binary, folder, logs)
        trial.run(int(sys.argv[3]) if len(sys.argv) > 3 else 200)
    for fault in trial.faults[:10]:
        print(fault)
    print(f"{len(trial.acknowledged)} uploads, {len(trial.faults)} faults, slowest upload {trial.slowest:.1f} s")
    sys.exit(1 if trial.faults else 0)


main()
