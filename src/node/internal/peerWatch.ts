/**
 * Notices for a server that the peer of a paused socket has closed it. Node does not poll a socket that is paused, and what the
 * operating system would say stands behind the bytes that nobody reads.
 *
 * - Writing nothing fails when a UNIX socket has been closed, and when a TCP connection has been reset.
 * - A TCP connection that was closed in good order cannot be told from one that is open, as long as its last bytes have not been
 *   read. Where its other end is on this host, Linux lists that end as one that no process has open any more.
 *
 * It is for servers only: a client reads what a server has sent before it closed.
 */
import * as NetAddress from "effect/net/NetAddress"
import * as Option from "effect/Option"
import * as Fs from "node:fs"
import type * as Net from "node:net"
import * as Os from "node:os"
import { LinkedItem, LinkedList } from "../../connection/internal/linkedList.ts"
import { inetAddress } from "./inetAddress.ts"

/** A socket whose peer is looked at. */
export type Watched = LinkedItem<Net.Socket>

/** Looks at the peer of this socket from now on, once a second; destroys the socket when the peer has gone. */
export const watchPeer = (socket: Net.Socket): Watched => {
  const one = new LinkedItem(socket)
  watched.push(one)
  timer ??= setInterval(look, interval).unref()
  return one
}

/** Looks at it no more. */
export const unwatchPeer = (one: Watched): void => {
  if (one.list === undefined) return
  watched.remove(one)
  if (watched.size > 0) return
  clearInterval(timer)
  timer = undefined
}

/**
 * Of the connections in a table of Linux (`/proc/net/tcp`, `/proc/net/tcp6`), the ends that have been closed and that no process
 * has open, as `endsOf` names them from the other end.
 */
export const closedEnds = (table: string): ReadonlySet<string> => {
  const ends = new Set<string>()
  for (const line of table.split("\n")) {
    const [, local, remote, state, , , , , , inode] = line.trim().split(/ +/)
    if (inode === "0" && remote !== undefined && closedStates.has(state)) {
      ends.add(`${unmapped(local)} ${unmapped(remote)}`)
    }
  }
  return ends
}

/** How the table names the other end of this connection: the address of its peer, then its own. */
export const endsOf = (socket: Net.Socket): string | undefined => {
  const peer = inetAddress(socket.remoteAddress, socket.remotePort)
  const own = inetAddress(socket.localAddress, socket.localPort)
  return Option.isSome(peer) && Option.isSome(own) ? `${inTable(peer.value)} ${inTable(own.value)}` : undefined
}

/** How the table writes an address: as the numbers that the processor sees in it, 32 bits at a time. */
export const inTable = (address: NetAddress.InetAddress): string => {
  const octets = NetAddress.isInetAddressV4(address)
    ? NetAddress.ipv4ToOctets(address.address)
    : NetAddress.ipv6ToOctets(address.address)
  let text = ""
  for (let at = 0; at < octets.length; at += 4) {
    const word = octets.slice(at, at + 4)
    if (Os.endianness() === "LE") word.reverse()
    for (const octet of word) text += octet.toString(16).padStart(2, "0")
  }
  return `${text.toUpperCase()}:${address.port.toString(16).toUpperCase().padStart(4, "0")}`
}

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

// Milliseconds.
const interval = 1000
const nothing = new Uint8Array(0)
const watched = new LinkedList<Watched>()
let timer: NodeJS.Timeout | undefined
let reading = false

const look = (): void => {
  let overTcp = false
  for (const { value: socket } of watched.toArray()) {
    if (socket.writable && socket.writableLength === 0) socket.write(nothing)
    overTcp ||= socket.remoteAddress !== undefined
  }
  if (!overTcp || reading) return
  reading = true
  let left = tables.length
  for (const table of tables) {
    Fs.readFile(table, "latin1", (error, text) => {
      if (error === null) destroyClosed(closedEnds(text))
      if (--left === 0) reading = false
    })
  }
}

const destroyClosed = (ends: ReadonlySet<string>): void => {
  if (ends.size === 0) return
  for (const { value: socket } of watched.toArray()) {
    const name = endsOf(socket)
    if (name !== undefined && ends.has(name)) socket.destroy(new Error("the peer has closed the connection"))
  }
}

const tables = ["/proc/net/tcp", "/proc/net/tcp6"]

// FIN_WAIT1, FIN_WAIT2, TIME_WAIT, LAST_ACK, CLOSING: the end has sent its FIN, or would have if it were let.
const closedStates = new Set(["04", "05", "06", "09", "0B"])

// IPv4 addresses in the table of IPv6.
const mapped = "0000000000000000" + (Os.endianness() === "LE" ? "FFFF0000" : "0000FFFF")
const unmapped = (address: string): string => address.startsWith(mapped) ? address.slice(mapped.length) : address
