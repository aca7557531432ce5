#!/bin/sh
# Installs from the unpacked tarball, as root: `sh install.sh`, or `PREFIX=/opt/etcd-ark sh install.sh`.
set -eu
cd "$(dirname "$0")"
prefix=${PREFIX:-/usr/local}
sha256sum --quiet -c SHA256SUMS
install -D -m 755 etcd-ark "$prefix/bin/etcd-ark"
for page in man/*.1; do
    install -D -m 644 "$page" "$prefix/share/man/man1/${page#man/}"
done
install -D -m 644 etcd-ark.bash "$prefix/share/bash-completion/completions/etcd-ark"
install -D -m 644 etcd-ark.zsh "$prefix/share/zsh/site-functions/_etcd-ark"
install -D -m 644 etcd-ark.fish "$prefix/share/fish/vendor_completions.d/etcd-ark.fish"
echo "installed $("$prefix/bin/etcd-ark" --version) in $prefix; etcd-ark.toml here is an example of a configuration file"
