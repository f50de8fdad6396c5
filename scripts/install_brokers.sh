#!/bin/sh
# Installs the brokers that the tests start for themselves, from Debian's packages, and lets no service of theirs run.
# The NATS server comes with the Python packages.
set -eu
PATH="$PATH:/usr/sbin:/sbin"

missing=
for package in redis-server rabbitmq-server; do
    command -v "$package" >/dev/null || missing="$missing $package"
done
if [ -z "$missing" ]; then
    echo "all brokers are installed"
    exit
fi
if ! command -v apt-get >/dev/null; then
    echo "install by the means of this system:$missing" >&2
    exit 1
fi
if [ "$(id -u)" -ne 0 ]; then
    echo "as root: make brokers, or apt-get install --no-install-recommends$missing" >&2
    exit 1
fi

# What packages ask before they start their service; the answer is no while this runs.
policy=${DPKG_ROOT:-}/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    trap 'exit 1' INT TERM
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
fi
apt-get update -qq
# shellcheck disable=SC2086
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing
if command -v systemctl >/dev/null; then
    # shellcheck disable=SC2086
    systemctl disable --quiet $missing     # nor at the next boot
fi
