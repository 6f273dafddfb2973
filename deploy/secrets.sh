#!/bin/sh
# Makes the secrets of docker-compose.yml: the folder secrets/, and .env, which names it. Needs openssl.
# Safe to repeat: what is there already stays.
set -eu
umask 077
cd "$(dirname "$0")/.."

# The folder lets nobody in; the files in it can be read by whichever user a container gives them to.
secret() {
    if [ ! -s "secrets/$1" ]; then
        printf '%s\n' "$2" >"secrets/$1"
        echo "made secrets/$1"
    fi
    chmod 444 "secrets/$1"
}

mkdir -p secrets/providers
chmod 700 secrets
chmod 755 secrets/providers
secret redis_password "$(openssl rand -hex 32)"
secret redis_url "redis://:$(cat secrets/redis_password)@redis:6379/0"
secret secret_keys "$(openssl rand -hex 32)"
secret notify_secret "whsec_$(openssl rand -base64 32)"
secret api_keys "default:$(openssl rand -hex 32)"
secret flower_basic_auth "orchestrator:$(openssl rand -hex 16)"
secret grafana_password "$(openssl rand -hex 16)"
secret providers/simulator "user:0-$(openssl rand -hex 12)"

if [ ! -e .env ]; then
    cat >.env <<'ENV'
# What docker-compose.yml is told. Made by deploy/secrets.sh; yours to change: docs/containers.md.
ORCHESTRATOR_SECRETS=./secrets

# The demo's: the simulated providers of `docker compose --profile demo up`. For real ones name your own file,
# and the address at which providers reach port 8000 (empty: everything is polled).
ORCHESTRATOR_ACCOUNTS=./deploy/demo/accounts.toml
ORCHESTRATOR_PUBLIC_URL=http://receiver:8000
ENV
    echo "made .env"
fi
echo "Flower and the operations page: user and password are in secrets/flower_basic_auth"
