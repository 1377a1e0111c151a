/**
 * The TCP segment in a captured packet: loopback, Ethernet and the other link types that `tcpdump -i lo`, `-i any` and its like
 * give, IPv4 and IPv6.
 */
import type { Packet } from "./pcap.ts"

/** A TCP segment. */
export interface Segment {
  /** The sender: `127.0.0.1:9000`, `[::1]:9000`. */
  readonly from: string
  readonly to: string
  readonly fromPort: number
  readonly toPort: number
  readonly sequence: number
  readonly syn: boolean
  readonly ack: boolean
  readonly fin: boolean
  readonly reset: boolean
  readonly payload: Uint8Array
  /** Bytes of the payload that the capture has cut off. */
  readonly missing: number
}

/** The segment of a packet; `undefined` for what is no TCP, or only a part of it. */
export const segmentOf = ({ bytes, length, linkType }: Packet): Segment | undefined => {
  const at = network(bytes, linkType)
  if (at === undefined || at >= bytes.length) return undefined
  const version = bytes[at]! >> 4
  const found = version === 4 ? ipv4(bytes, at) : version === 6 ? ipv6(bytes, at) : undefined
  return found === undefined ? undefined : tcp(bytes, found, Math.max(0, length - bytes.length))
}

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

const etherTypes = new Set([0x0800, 0x86dd])
const vlanTypes = new Set([0x8100, 0x88a8, 0x9100])

const uint16 = (bytes: Uint8Array, at: number): number => at + 1 < bytes.length ? bytes[at]! << 8 | bytes[at + 1]! : 0

// Where the IP header begins.
const network = (bytes: Uint8Array, linkType: number): number | undefined => {
  switch (linkType) {
    // LINKTYPE_NULL, LINKTYPE_LOOP: a family of four bytes, whose number differs between systems.
    case 0:
    case 108:
      return 4
    // LINKTYPE_ETHERNET
    case 1: {
      let at = 12
      while (vlanTypes.has(uint16(bytes, at))) at += 4
      return etherTypes.has(uint16(bytes, at)) ? at + 2 : undefined
    }
    // LINKTYPE_RAW, also by its number on the BSDs; LINKTYPE_IPV4, LINKTYPE_IPV6
    case 12:
    case 14:
    case 101:
    case 228:
    case 229:
      return 0
    // LINKTYPE_LINUX_SLL: tcpdump -i any
    case 113:
      return etherTypes.has(uint16(bytes, 14)) ? 16 : undefined
    // LINKTYPE_LINUX_SLL2
    case 276:
      return etherTypes.has(uint16(bytes, 0)) ? 20 : undefined
    default:
      return undefined
  }
}

interface Found {
  readonly source: string
  readonly destination: string
  /** Where TCP begins and the packet ends, which may be short of the frame's padding or beyond what was captured. */
  readonly start: number
  readonly end: number
}

const tcpProtocol = 6

const ipv4 = (bytes: Uint8Array, at: number): Found | undefined => {
  const headerLength = (bytes[at]! & 15) * 4
  if (bytes.length < at + 20 || headerLength < 20 || bytes[at + 9] !== tcpProtocol) return undefined
  // A fragment: hosts of today send none for TCP.
  if ((uint16(bytes, at + 6) & 0x3fff) !== 0) return undefined
  const total = uint16(bytes, at + 2)
  return {
    source: Array.from(bytes.subarray(at + 12, at + 16)).join("."),
    destination: Array.from(bytes.subarray(at + 16, at + 20)).join("."),
    start: at + headerLength,
    // The network card cuts what is longer, and then there is no length (segmentation offload).
    end: total === 0 ? bytes.length : at + total
  }
}

// Hop-by-hop, routing and destination options: the next header, and their length in units of eight bytes.
const extensions = new Set([0, 43, 60])

const ipv6 = (bytes: Uint8Array, at: number): Found | undefined => {
  if (bytes.length < at + 40) return undefined
  const payload = uint16(bytes, at + 4)
  let next = bytes[at + 6]!
  let start = at + 40
  while (extensions.has(next) && start + 8 <= bytes.length) {
    next = bytes[start]!
    start += (bytes[start + 1]! + 1) * 8
  }
  if (next !== tcpProtocol) return undefined
  return {
    source: `[${ipv6Text(bytes, at + 8)}]`,
    destination: `[${ipv6Text(bytes, at + 24)}]`,
    start,
    end: payload === 0 ? bytes.length : at + 40 + payload
  }
}

const ipv6Text = (bytes: Uint8Array, at: number): string => {
  const groups = Array.from({ length: 8 }, (_, i) => uint16(bytes, at + 2 * i).toString(16)).join(":")
  // The way URLs write it, with the longest run of zeros left out.
  return new URL(`http://[${groups}]`).hostname.slice(1, -1)
}

const tcp = (bytes: Uint8Array, { destination, end, source, start }: Found, cut: number): Segment | undefined => {
  if (bytes.length < start + 20) return undefined
  const fromPort = uint16(bytes, start)
  const toPort = uint16(bytes, start + 2)
  const flags = bytes[start + 13]!
  const content = start + (bytes[start + 12]! >> 4) * 4
  const payload = bytes.subarray(Math.min(content, bytes.length), Math.max(content, Math.min(end, bytes.length)))
  return {
    from: `${source}:${fromPort}`,
    to: `${destination}:${toPort}`,
    fromPort,
    toPort,
    sequence: new DataView(bytes.buffer, bytes.byteOffset).getUint32(start + 4),
    syn: (flags & 2) !== 0,
    ack: (flags & 16) !== 0,
    fin: (flags & 1) !== 0,
    reset: (flags & 4) !== 0,
    payload,
    missing: Math.max(0, Math.min(cut, end - content - payload.length))
  }
}
