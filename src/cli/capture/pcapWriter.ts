/**
 * A pcap file of connections that were not captured but passed on, over UNIX sockets too: each is written as a TCP connection of
 * 127.0.0.1, with every byte in the packets that it came in.
 */

/** One connection of the file. */
export interface PcapConnection {
  readonly bytes: (fromClient: boolean, bytes: Uint8Array) => void
  /** A direction is closed. */
  readonly end: (fromClient: boolean) => void
  readonly reset: (fromClient: boolean) => void
}

/** Writes the file through `write`, which takes the bytes at once. */
export class PcapWriter {
  private readonly write: (bytes: Uint8Array) => void
  private readonly serverPort: number
  private count = 0

  constructor(write: (bytes: Uint8Array) => void, serverPort: number) {
    this.write = write
    this.serverPort = serverPort
    const header = Buffer.alloc(24)
    header.writeUInt32LE(0xa1b2c3d4, 0)
    header.writeUInt16LE(2, 4)
    header.writeUInt16LE(4, 6)
    header.writeUInt32LE(262_144, 16)
    // LINKTYPE_RAW: packets begin with IP.
    header.writeUInt32LE(101, 20)
    this.write(header)
  }

  /** A connection opens. */
  open(): PcapConnection {
    const number = this.count++
    const clientPort = firstPort + number % (65_536 - firstPort)
    // A port that is used again begins with other numbers.
    const next = { client: Math.imul(number + 1, 0x9e3779b1) >>> 0, server: Math.imul(number + 1, 0x85ebca6b) >>> 0 }
    const send = (fromClient: boolean, flags: number, payload: Uint8Array) => {
      const [own, other] = fromClient ? [next.client, next.server] : [next.server, next.client]
      const [from, to] = fromClient ? [clientPort, this.serverPort] : [this.serverPort, clientPort]
      this.write(packet(from, to, own, (flags & flag.ack) === 0 ? 0 : other, flags, payload))
      const length = payload.length + ((flags & (flag.syn | flag.fin)) === 0 ? 0 : 1)
      if (fromClient) next.client = (own + length) >>> 0
      else next.server = (own + length) >>> 0
    }
    send(true, flag.syn, nothing)
    send(false, flag.syn | flag.ack, nothing)
    send(true, flag.ack, nothing)
    return {
      bytes(fromClient, bytes) {
        for (let at = 0; at < bytes.length; at += maxPayload) {
          send(fromClient, flag.push | flag.ack, bytes.subarray(at, at + maxPayload))
        }
      },
      end: (fromClient) => send(fromClient, flag.fin | flag.ack, nothing),
      reset: (fromClient) => send(fromClient, flag.reset | flag.ack, nothing)
    }
  }
}

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

// The ports that systems give to clients.
const firstPort = 49_152

const flag = { fin: 1, syn: 2, reset: 4, push: 8, ack: 16 } as const

const nothing = new Uint8Array(0)

// The most content of an IPv4 packet, without its headers.
const maxPayload = 65_535 - 40

const packet = (
  from: number,
  to: number,
  sequence: number,
  acknowledged: number,
  flags: number,
  payload: Uint8Array
): Uint8Array => {
  const bytes = Buffer.alloc(16 + 40 + payload.length)
  const now = performance.timeOrigin + performance.now()
  bytes.writeUInt32LE(Math.floor(now / 1000), 0)
  bytes.writeUInt32LE(Math.floor(now * 1000) % 1_000_000, 4)
  bytes.writeUInt32LE(40 + payload.length, 8)
  bytes.writeUInt32LE(40 + payload.length, 12)
  const ip = 16
  bytes[ip] = 0x45
  bytes.writeUInt16BE(40 + payload.length, ip + 2)
  bytes[ip + 8] = 64
  bytes[ip + 9] = 6
  bytes.set([127, 0, 0, 1, 127, 0, 0, 1], ip + 12)
  bytes.writeUInt16BE(checksum(bytes.subarray(ip, ip + 20)), ip + 10)
  const tcp = ip + 20
  bytes.writeUInt16BE(from, tcp)
  bytes.writeUInt16BE(to, tcp + 2)
  bytes.writeUInt32BE(sequence, tcp + 4)
  bytes.writeUInt32BE(acknowledged, tcp + 8)
  bytes[tcp + 12] = 5 << 4
  bytes[tcp + 13] = flags
  bytes.writeUInt16BE(0xffff, tcp + 14)
  // Without a checksum, as captures are that a network card has computed it for.
  bytes.set(payload, tcp + 20)
  return bytes
}

const checksum = (header: Uint8Array): number => {
  let sum = 0
  for (let i = 0; i < header.length; i += 2) sum += header[i]! << 8 | header[i + 1]!
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16)
  return ~sum & 0xffff
}
