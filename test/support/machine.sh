# Inside new namespaces of mounts, network and processes: see machine.ts.
# $1 is the folder for everything that is written, $2 the Node that pages call /usr/bin/node, $3 a stand-in for systemctl, and $4
# what it receives the messages of services with.
set -eu
base=$1 node=$2 systemctl=$3 receive=$4
mount --make-rprivate /
mkdir "$base/layers"
mount -t tmpfs tmpfs "$base/layers"
for folder in etc var srv usr root; do
  upper="$base/layers/$folder/upper" work="$base/layers/$folder/work"
  mkdir -p "$upper" "$work"
  mount -t overlay overlay -o "lowerdir=/$folder,upperdir=$upper,workdir=$work" "/$folder"
done
install -m 755 "$systemctl" /usr/local/bin/systemctl
install -m 644 "$receive" /usr/local/bin/receive.pl
rm -f /usr/bin/node
touch /usr/bin/node
mount --bind "$node" /usr/bin/node
mount -t tmpfs tmpfs /run
# What the packages' own set-up makes at a start.
mkdir -p /run/lock /run/haproxy /run/php
install -d -o www-data -g www-data /run/lighttpd
mount --bind "$base/home" /home
mkdir -m 1777 "$base/tmp"
mount --bind "$base/tmp" /tmp
# Nothing else can be written, whatever a command does: the machine of the tests stays as it is.
mount -o remount,bind,ro /
if touch /probe 2>/dev/null; then
  rm -f /probe
  echo "/ can be written" >&2
  exit 1
fi
ip link set lo up
useradd --no-create-home --shell /bin/bash stranger
chown stranger: /home/stranger
echo "stranger ALL=(ALL) NOPASSWD: ALL" >/etc/sudoers.d/stranger
chmod 440 /etc/sudoers.d/stranger
echo ready
# This is the process that those without a parent get, and it takes note of their end.
while :; do
  sleep infinity &
  wait
done
