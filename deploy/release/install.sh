#!/bin/sh
# Installs what lies beside this script: as root for the whole machine, where the units of systemd look for it; as any other user
# under ~/.local. Installs no setting that is there already, and starts nothing.
#
#   ./install.sh
set -eu
cd "$(dirname "$0")"

if [ "$(id -u)" = 0 ]; then
    share=/usr/share
    install -m 0755 bin/atlas-auth-proxy /usr/bin/
else
    share=$HOME/.local/share
    install -D -m 0755 bin/atlas-auth-proxy "$HOME/.local/bin/atlas-auth-proxy"
fi
mkdir -p "$share/man/man1" "$share/bash-completion/completions" "$share/zsh/site-functions" "$share/fish/vendor_completions.d"
install -m 0644 man/* "$share/man/man1/"
install -m 0644 completions/atlas-auth-proxy.bash "$share/bash-completion/completions/atlas-auth-proxy"
install -m 0644 completions/_atlas-auth-proxy "$share/zsh/site-functions/"
install -m 0644 completions/atlas-auth-proxy.fish "$share/fish/vendor_completions.d/"
if [ "$(id -u)" != 0 ]; then
    echo "installed: $HOME/.local/bin/atlas-auth-proxy. Next: $HOME/.local/bin/atlas-auth-proxy demo"
    exit
fi

install -D -m 0644 systemd/sysusers.conf /usr/lib/sysusers.d/atlas-auth-proxy.conf
install -D -m 0644 systemd/tmpfiles.conf /usr/lib/tmpfiles.d/atlas-auth-proxy.conf
systemd-sysusers atlas-auth-proxy.conf
systemd-tmpfiles --create atlas-auth-proxy.conf
[ -e /etc/atlas-auth-proxy/environment ] || install -m 0644 systemd/environment /etc/atlas-auth-proxy/
mkdir -p /usr/lib/systemd/system
install -m 0644 systemd/*.service systemd/*.socket systemd/*.timer /usr/lib/systemd/system/
[ ! -d /run/systemd/system ] || systemctl daemon-reload
echo 'installed. Next: edit /etc/atlas-auth-proxy/environment, which says the rest'
