/**
 * How many connections Linux holds for a listening socket until they are accepted. Of a TCP socket that listens
 * `/proc/net/tcp` says it in `rx_queue` (`sk_ack_backlog`); of a UNIX socket `/proc/net/unix` lists each of them by the path of
 * the listener, as connecting and without an inode: nobody has a descriptor of it yet. `ss` asks the kernel over netlink, which
 * Node cannot.
 */
import * as NetAddress from "effect/net/NetAddress"
import * as Option from "effect/Option"
import * as Fs from "node:fs"
import { inTable } from "./peerWatch.ts"

/** Connections that wait; none where it cannot be read. */
export const listenQueue = (address: NetAddress.SocketAddress): Option.Option<number> => {
  try {
    return Option.some(
      NetAddress.isUnixPathAddress(address)
        ? waitingOnPath(Fs.readFileSync("/proc/net/unix", "latin1"), address.path)
        : waitingOnPort(
          Fs.readFileSync(NetAddress.isInetAddressV4(address) ? "/proc/net/tcp" : "/proc/net/tcp6", "latin1"),
          inTable(address)
        )
    )
  } catch {
    // Not Linux, or not to be seen here.
    return Option.none()
  }
}

/** Of a table of UNIX sockets: those that connect to this path. */
export const waitingOnPath = (table: string, path: string): number => {
  const name = ` ${path.startsWith("\0") ? `@${path.slice(1)}` : path}`
  let waiting = 0
  for (const line of table.split("\n")) {
    if (line.endsWith(name) && / 02 +0 /.test(line.slice(0, -name.length + 1))) waiting++
  }
  return waiting
}

/** Of a table of TCP sockets: what the one that listens there holds. */
export const waitingOnPort = (table: string, address: string): number => {
  for (const line of table.split("\n")) {
    const [, local, , state, queues] = line.trim().split(/ +/)
    if (local === address && state === "0A") return Number.parseInt(queues.split(":")[1], 16)
  }
  return 0
}
