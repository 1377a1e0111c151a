/**
 * Packets of a capture file: classic pcap and pcapng, of either byte order, as tcpdump and Wireshark write them
 * (draft-ietf-opsawg-pcap, draft-ietf-opsawg-pcapng).
 */

/** A packet, as it was captured. */
export interface Packet {
  /** When, in seconds since 1970. */
  readonly time: number
  /** The kind of header at the start of the bytes: LINKTYPE_ETHERNET is 1. */
  readonly linkType: number
  readonly bytes: Uint8Array
  /** How long it was on the wire: more than `bytes` where the capture cut it. */
  readonly length: number
}

/** The file is damaged, or none that is known. */
export interface PcapProblem {
  readonly problem: string
}

/** Reads packets from the bytes of a capture as they come. It keeps at most one packet. */
export interface PcapReader {
  /** Takes the next bytes and appends the packets that are complete. */
  readonly push: (chunk: Uint8Array, packets: Array<Packet>) => PcapProblem | undefined
}

/** The kind of a file, by its first four bytes. */
export const kindOf = (magic: Uint8Array): "pcap" | "pcapng" | undefined => {
  const number = view(magic).getUint32(0)
  return number === 0x0a0d0d0a ? "pcapng" : classicMagic.has(number) ? "pcap" : undefined
}

/** A reader for a file that begins with these four bytes. */
export const makeReader = (kind: "pcap" | "pcapng"): PcapReader => kind === "pcap" ? new Classic() : new Blocks()

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

const view = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)

// The magic numbers as they read big-endian: whether the file is little-endian, and the unit of its times in a second.
const classicMagic = new Map<number, readonly [littleEndian: boolean, units: number]>([
  [0xa1b2c3d4, [false, 1e6]],
  [0xd4c3b2a1, [true, 1e6]],
  [0xa1b23c4d, [false, 1e9]],
  [0x4d3cb2a1, [true, 1e9]]
])

// Longer than any packet that a capture holds (tcpdump's largest snap length is 262,144), and than any block of pcapng.
const maxLength = 16 * 1024 * 1024

/** Bytes that wait for the rest of what they belong to. */
class Gathered {
  private bytes: Uint8Array = new Uint8Array(0)
  private start = 0
  private end = 0

  push(chunk: Uint8Array): void {
    const size = this.end - this.start
    if (this.end + chunk.length > this.bytes.length) {
      // Views into the old bytes have been handed out, so these bytes stay unchanged.
      const grown = new Uint8Array(Math.max(64 * 1024, 2 * size, size + chunk.length))
      grown.set(this.bytes.subarray(this.start, this.end))
      this.bytes = grown
      this.start = 0
      this.end = size
    }
    this.bytes.set(chunk, this.end)
    this.end += chunk.length
  }

  get size(): number {
    return this.end - this.start
  }

  peek(length: number): Uint8Array {
    return this.bytes.subarray(this.start, this.start + length)
  }

  take(length: number): Uint8Array {
    const taken = this.peek(length)
    this.start += length
    return taken
  }
}

class Classic implements PcapReader {
  private readonly gathered = new Gathered()
  private file: { readonly little: boolean; readonly units: number; readonly linkType: number } | undefined

  push(chunk: Uint8Array, packets: Array<Packet>): PcapProblem | undefined {
    const { gathered } = this
    gathered.push(chunk)
    if (this.file === undefined) {
      if (gathered.size < 24) return undefined
      const header = view(gathered.take(24))
      const [little, units] = classicMagic.get(header.getUint32(0))!
      // The upper bits say whether frames end in a checksum.
      this.file = { little, units, linkType: header.getUint32(20, little) & 0x0fffffff }
    }
    const { linkType, little, units } = this.file
    while (gathered.size >= 16) {
      const header = view(gathered.peek(16))
      const captured = header.getUint32(8, little)
      if (captured > maxLength) return { problem: `a packet of ${captured} bytes: the capture is damaged` }
      if (gathered.size < 16 + captured) break
      const time = header.getUint32(0, little) + header.getUint32(4, little) / units
      const length = header.getUint32(12, little)
      gathered.take(16)
      packets.push({ time, linkType, bytes: gathered.take(captured), length })
    }
    return undefined
  }
}

interface Interface {
  readonly linkType: number
  readonly units: number
}

const Block = { section: 0x0a0d0d0a, interface: 1, oldPacket: 2, simplePacket: 3, enhancedPacket: 6 } as const

const timeResolution = 9

class Blocks implements PcapReader {
  private readonly gathered = new Gathered()
  private little = true
  private interfaces: Array<Interface> = []

  push(chunk: Uint8Array, packets: Array<Packet>): PcapProblem | undefined {
    const { gathered } = this
    gathered.push(chunk)
    while (gathered.size >= 12) {
      const header = view(gathered.peek(12))
      const isSection = header.getUint32(0) === Block.section
      if (isSection) {
        this.little = header.getUint32(8) === 0x4d3c2b1a
        this.interfaces = []
      }
      const length = header.getUint32(4, this.little)
      if (length < 12 || length % 4 !== 0 || length > maxLength) {
        return { problem: `a block of ${length} bytes: the capture is damaged` }
      }
      if (gathered.size < length) return undefined
      const block = gathered.take(length)
      if (!isSection) this.block(view(block).getUint32(0, this.little), block, packets)
    }
    return undefined
  }

  private block(type: number, block: Uint8Array, packets: Array<Packet>): void {
    const { little } = this
    const data = view(block)
    // Header, body, and the length once more.
    const end = block.length - 4
    switch (type) {
      case Block.interface:
        if (end < 16) return
        this.interfaces.push({ linkType: data.getUint16(8, little), units: this.units(block, 16, end) })
        return
      case Block.simplePacket: {
        const [one] = this.interfaces
        if (one === undefined || end < 12) return
        packets.push({
          time: 0,
          linkType: one.linkType,
          bytes: block.subarray(12, end),
          length: data.getUint32(8, little)
        })
        return
      }
      case Block.oldPacket:
      case Block.enhancedPacket: {
        if (end < 28) return
        const id = type === Block.enhancedPacket ? data.getUint32(8, little) : data.getUint16(8, little)
        const one = this.interfaces[id]
        if (one === undefined) return
        const time = (data.getUint32(12, little) * 2 ** 32 + data.getUint32(16, little)) / one.units
        const captured = data.getUint32(20, little)
        const bytes = block.subarray(28, Math.min(28 + captured, end))
        packets.push({ time, linkType: one.linkType, bytes, length: data.getUint32(24, little) })
      }
    }
  }

  // Times are in microseconds unless an option says otherwise.
  private units(block: Uint8Array, at: number, end: number): number {
    const data = view(block)
    while (at + 4 <= end) {
      const code = data.getUint16(at, this.little)
      const length = data.getUint16(at + 2, this.little)
      if (code === 0) break
      if (code === timeResolution && length >= 1 && at + 4 < end) {
        const value = block[at + 4]!
        return value < 128 ? 10 ** value : 2 ** (value - 128)
      }
      at += 4 + length + (-length & 3)
    }
    return 1e6
  }
}
