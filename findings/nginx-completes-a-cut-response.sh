#!/usr/bin/env bash
# nginx completes a response that its upstream cut off.
#
# One would guess: an upstream that dies in the middle of a chunked response makes the client's transfer fail, as it does without a
# proxy (curl: exit 18, "transfer closed with outstanding read data remaining").
# What happens: with the default `proxy_http_version 1.0` an HTTP/1.1 server ends a body of unknown length by closing the connection.
# nginx cannot tell a crash from the end, writes the closing chunk itself, and curl exits with 0 on a truncated file. With
# `proxy_http_version 1.1`, or with a Content-Length, the client sees the failure.
# nginx-light of Debian 12 (1.22.1), curl 7.88.1. Source: https://nginx.org/en/docs/http/ngx_http_proxy_module.html#proxy_http_version
set -euo pipefail
work=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$work"' EXIT

if ! command -v nginx >/dev/null || ! command -v curl >/dev/null; then
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq nginx-light curl python3
fi
nginx -v
curl --version | head -n 1

# An upstream as usual HTTP libraries make one: chunked for HTTP/1.1, ended by close for HTTP/1.0. It sends half of its body and
# exits, as a killed process does: the kernel closes the connection.
cat >"$work/upstream.py" <<'PY'
import http.server, os, sys

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if os.fork():
            self.close_connection = True
            os.wait()
            return
        chunked = self.request_version == "HTTP/1.1"
        self.send_response(200)
        if self.path == "/length":
            self.send_header("Content-Length", "200000")
            chunked = False
        elif chunked:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Connection", "close")
        self.end_headers()
        half = b"x" * 100000
        self.wfile.write(b"%x\r\n%s\r\n" % (len(half), half) if chunked else half)
        self.wfile.flush()
        os._exit(1)

    def log_message(self, *arguments):
        pass

server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
PY
mkfifo "$work/port"
python3 "$work/upstream.py" >"$work/port" &
read -r upstream <"$work/port"
read -r default http11 < <(python3 -c 'import socket
sockets = [socket.socket() for _ in range(2)]
for s in sockets: s.bind(("127.0.0.1", 0))
print(*(s.getsockname()[1] for s in sockets))')

cat >"$work/nginx.conf" <<CONF
daemon off; pid $work/pid; error_log $work/error.log; user root;
events {}
http {
    access_log off;
    client_body_temp_path $work/a; proxy_temp_path $work/b; fastcgi_temp_path $work/c; uwsgi_temp_path $work/d; scgi_temp_path $work/e;
    server { listen 127.0.0.1:$default; location / { proxy_pass http://127.0.0.1:$upstream; } }
    server { listen 127.0.0.1:$http11; location / { proxy_pass http://127.0.0.1:$upstream; proxy_http_version 1.1; } }
}
CONF
nginx -c "$work/nginx.conf" -e "$work/error.log" &

fetch() { # name, URL: prints what curl got, returns its exit code
    local code=0
    curl --silent --retry 20 --retry-connrefused --retry-delay 1 --max-time 20 --output "$work/body" "$2" || code=$?
    printf '%-44s curl exit %2d, %d bytes of 200000\n' "$1" "$code" "$(stat -c %s "$work/body")"
    return "$code"
}
seen=()
fetch "no proxy" "http://127.0.0.1:$upstream/" || seen+=("$?")
fetch "nginx, defaults" "http://127.0.0.1:$default/" && seen+=(0)
fetch "nginx, proxy_http_version 1.1" "http://127.0.0.1:$http11/" || seen+=("$?")
fetch "nginx, defaults, Content-Length" "http://127.0.0.1:$default/length" || seen+=("$?")
[[ ${seen[*]} == "18 0 18 18" ]] || { echo "changed: ${seen[*]}"; exit 1; }
