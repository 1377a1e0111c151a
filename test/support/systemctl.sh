#!/bin/bash
# Stands for systemctl on a machine of machine.ts, where no systemd runs. Of an app's unit it does what it says of the user, the group,
# the environment, the folders and the command, waits for READY=1, and does nothing else; systemd-analyze judges the whole unit. It
# starts web servers as their packages do.
set -eu
name=${!#}
unit=/etc/systemd/system/$name.service

values() { sed -n "s/^$1=//p" "$unit"; }

start() {
  local user group runtime state
  user=$(values User) group=$(values Group) runtime=$(values RuntimeDirectory) state=$(values StateDirectory)
  systemd-analyze verify --man=no "$unit"
  if [ -n "$runtime" ]; then
    install -d -o "$user" -g "$group" -m "$(values RuntimeDirectoryMode)" "/run/$runtime"
  fi
  if [ -n "$state" ]; then install -d -o "$user" -g "$group" -m "$(values StateDirectoryMode)" "/var/lib/$state"; fi
  [ "$(values Type)" = notify ]
  if [ ! -S /run/notify.sock ]; then
    setsid perl /usr/local/bin/receive.pl /run/notify.sock >>/run/notify.log 2>&1 </dev/null &
    until grep -q listening /run/notify.log; do sleep 0.02; done
    chmod 666 /run/notify.sock
  fi
  : >/run/notify.log
  mapfile -t environment < <(values Environment)
  read -r -a command < <(values ExecStart)
  setsid setpriv --reuid "$user" --regid "$group" --clear-groups --no-new-privs env --ignore-environment \
    --chdir "$(values WorkingDirectory)" PATH=/usr/bin:/bin NOTIFY_SOCKET=/run/notify.sock "${environment[@]}" "${command[@]}" \
    >>"/var/log/$name.log" 2>&1 </dev/null &
  echo $! >"/run/$name.pid"
  until grep -q READY=1 /run/notify.log; do
    kill -s 0 $! # it has ended instead
    sleep 0.02
  done
}

stop() {
  local pid
  pid=$(cat "/run/$name.pid")
  kill -s TERM "$pid"
  while kill -s 0 "$pid" 2>/dev/null; do sleep 0.02; done
}

case $* in
  "reload nginx") nginx -s reload ;;
  "restart lighttpd") lighttpd -f /etc/lighttpd/lighttpd.conf ;;
  "restart apache2") apachectl start ;;
  "restart haproxy") haproxy -D -f /etc/haproxy/haproxy.cfg ;;
  "restart caddy")
    setpriv --reuid caddy --regid caddy --clear-groups --inh-caps +net_bind_service --ambient-caps +net_bind_service \
      env HOME=/var/lib/caddy caddy start --config /etc/caddy/Caddyfile
    ;;
  "enable --now $name") start ;;
  "restart $name")
    stop
    start
    ;;
  *)
    echo "systemctl of the tests does not know: $*" >&2
    exit 1
    ;;
esac
