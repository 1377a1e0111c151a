/**
 * Captures: packets of pcap and pcapng files of either byte order, segments of every link type, and connections whose segments
 * come twice, late or not at all.
 */
import { assert, describe, it } from "@effect/vitest"
import { kindOf, makeReader, type Packet } from "../../src/cli/capture/pcap.ts"
import { PcapWriter } from "../../src/cli/capture/pcapWriter.ts"
import { type ConnectionEvent, Reassembly } from "../../src/cli/capture/reassembly.ts"
import { type Segment, segmentOf } from "../../src/cli/capture/segment.ts"
import { CaptureSource } from "../../src/cli/capture/source.ts"

const text = (value: string) => Buffer.from(value)

/** A file of one connection on which "ping" is answered with "pong", both of which are closed. */
const written = () => {
  const chunks: Array<Uint8Array> = []
  const writer = new PcapWriter((bytes) => chunks.push(bytes), 9000)
  const connection = writer.open()
  connection.bytes(true, text("ping"))
  connection.bytes(false, text("pong"))
  connection.bytes(false, Buffer.alloc(100_000, "x"))
  connection.end(true)
  connection.end(false)
  return Buffer.concat(chunks)
}

const packetsOf = (file: Uint8Array, size = file.length): ReadonlyArray<Packet> => {
  const reader = makeReader(kindOf(file)!)
  const packets: Array<Packet> = []
  for (let at = 0; at < file.length; at += size) {
    assert.isUndefined(reader.push(file.subarray(at, at + size), packets))
  }
  return packets
}

/** The same packets as the classic file of the other byte order, with times in nanoseconds. */
const bigEndian = (packets: ReadonlyArray<Packet>) => {
  const file = Buffer.alloc(24)
  file.writeUInt32BE(0xa1b23c4d)
  file.writeUInt32BE(101, 20)
  return Buffer.concat([
    file,
    ...packets.flatMap(({ bytes, length, time }) => {
      const header = Buffer.alloc(16)
      header.writeUInt32BE(Math.floor(time), 0)
      header.writeUInt32BE(Math.round((time % 1) * 1e9), 4)
      header.writeUInt32BE(bytes.length, 8)
      header.writeUInt32BE(length, 12)
      return [header, bytes]
    })
  ])
}

/** The same packets as pcapng: a section, an interface with times in nanoseconds, a block that nobody knows. */
const pcapng = (packets: ReadonlyArray<Packet>) => {
  const block = (type: number, body: Uint8Array) => {
    const length = 12 + body.length
    const padded = Buffer.alloc(length + (-length & 3))
    padded.writeUInt32LE(type, 0)
    padded.writeUInt32LE(padded.length, 4)
    padded.set(body, 8)
    padded.writeUInt32LE(padded.length, padded.length - 4)
    return padded
  }
  const section = Buffer.alloc(16)
  section.writeUInt32LE(0x1a2b3c4d)
  section.writeUInt16LE(1, 4)
  const one = Buffer.from([101, 0, 0, 0, 0, 0, 0, 0, 9, 0, 1, 0, 9, 0, 0, 0, 0, 0, 0, 0])
  return Buffer.concat([
    block(0x0a0d0d0a, section),
    block(1, one),
    block(0x0bad, text("nobody knows")),
    ...packets.map(({ bytes, length, time }) => {
      const body = Buffer.alloc(20)
      const stamp = BigInt(Math.floor(time)) * 1_000_000_000n + BigInt(Math.round((time % 1) * 1e9))
      body.writeUInt32LE(Number(stamp >> 32n), 4)
      body.writeUInt32LE(Number(stamp & 0xffffffffn), 8)
      body.writeUInt32LE(bytes.length, 12)
      body.writeUInt32LE(length, 16)
      return block(6, Buffer.concat([body, bytes]))
    })
  ])
}

/** What came, by direction: the bytes, and the other events by name. */
const summary = (events: ReadonlyArray<ConnectionEvent>) => {
  const client: Array<string> = []
  const server: Array<string> = []
  for (const event of events) {
    if (event._tag === "Opened") continue
    const side = event.fromClient ? client : server
    if (event._tag === "Bytes") side.push(Buffer.from(event.bytes).toString())
    else side.push(event._tag === "Lost" ? `-${event.count}` : event._tag)
  }
  return { client: client.join("|"), server: server.join("|") }
}

describe("a capture file", () => {
  const packets = packetsOf(written())

  it("gives the same packets whatever its kind, and however its bytes come", () => {
    assert.strictEqual(packets.length, 3 + 1 + 1 + 2 + 2)
    const near = (found: ReadonlyArray<Packet>) => {
      assert.deepStrictEqual(found.map(({ bytes }) => bytes), packets.map(({ bytes }) => bytes))
      found.forEach(({ time }, i) => assert.approximately(time, packets[i]!.time, 1e-6))
    }
    for (const file of [written(), bigEndian(packets), pcapng(packets)]) {
      const whole = packetsOf(file)
      assert.strictEqual(whole.length, packets.length)
      for (const size of [13, 1000]) {
        assert.deepStrictEqual(packetsOf(file, size).map(({ bytes }) => bytes), whole.map(({ bytes }) => bytes))
      }
    }
    near(packetsOf(bigEndian(packets)))
    near(packetsOf(pcapng(packets)))
  })

  it("that is damaged says so, and takes no memory for what it declares", () => {
    const huge = written()
    huge.writeUInt32LE(0x7fffffff, 24 + 8)
    assert.match(makeReader("pcap").push(huge, [])!.problem, /a packet of 2147483647 bytes/)
    const block = pcapng(packets)
    block.writeUInt32LE(6, 4)
    assert.match(makeReader("pcapng").push(block, [])!.problem, /a block of 6 bytes/)
    const source = new CaptureSource()
    source.push(text("abc"))
    assert.deepStrictEqual(source.end(), [{ _tag: "Problem", problem: "the file ends after a few bytes" }])
  })

  it("is read to the bytes that were written", () => {
    const source = new CaptureSource()
    const events = [...source.push(written()), ...source.end()] as ReadonlyArray<ConnectionEvent>
    assert.deepInclude(events[0], { _tag: "Opened" })
    assert.deepStrictEqual(events[0]!.connection, {
      number: 1,
      client: "127.0.0.1:49152",
      server: "127.0.0.1:9000",
      serverPort: 9000
    })
    const { client, server } = summary(events)
    assert.strictEqual(client, "ping|Ended")
    assert.strictEqual(server.replaceAll("|", ""), `pong${"x".repeat(100_000)}Ended`)
  })
})

describe("a segment", () => {
  const ip = packetsOf(written())[3]!.bytes
  const packet = (linkType: number, ...parts: ReadonlyArray<Uint8Array>): Packet => {
    const bytes = Buffer.concat(parts)
    return { time: 0, linkType, bytes, length: bytes.length }
  }

  it("is found behind every kind of link", () => {
    const ethernet = (...type: ReadonlyArray<number>) => Buffer.from([...new Array<number>(12).fill(0), ...type])
    for (
      const [linkType, link] of [
        [0, Buffer.from([2, 0, 0, 0])],
        [108, Buffer.from([0, 0, 0, 2])],
        [1, ethernet(8, 0)],
        [1, ethernet(0x81, 0, 0, 5, 8, 0)],
        [101, Buffer.alloc(0)],
        [113, Buffer.from([...new Array<number>(14).fill(0), 8, 0])],
        [276, Buffer.from([8, 0, ...new Array<number>(18).fill(0)])]
      ] as const
    ) {
      const found = segmentOf(packet(linkType, link, ip))
      assert.include(found, { from: "127.0.0.1:49152", to: "127.0.0.1:9000", missing: 0 }, String(linkType))
      assert.strictEqual(Buffer.from(found!.payload).toString(), "ping")
      // Short frames of Ethernet are filled up.
      const filled = segmentOf(packet(linkType, link, ip, Buffer.alloc(10)))
      assert.strictEqual(Buffer.from(filled!.payload).toString(), "ping")
    }
  })

  it("is found in IPv6, and cut where the capture cut it", () => {
    const tcp = ip.subarray(20)
    const header = Buffer.alloc(40)
    header[0] = 0x60
    header.writeUInt16BE(tcp.length + 8, 4)
    header[6] = 0
    header[23] = 1
    header[39] = 1
    const hopByHop = Buffer.from([6, 0, 0, 0, 0, 0, 0, 0])
    const found = segmentOf(packet(101, header, hopByHop, tcp))
    assert.include(found, { from: "[::1]:49152", to: "[::1]:9000" })
    assert.strictEqual(Buffer.from(found!.payload).toString(), "ping")
    const cut = segmentOf({ time: 0, linkType: 101, bytes: ip.subarray(0, 42), length: ip.length })
    assert.strictEqual(cut!.missing, 2)
  })

  it("is none where there is no TCP", () => {
    const udp = Buffer.from(ip)
    udp[9] = 17
    const fragment = Buffer.from(ip)
    fragment[6] = 0x20
    for (const bytes of [udp, fragment, ip.subarray(0, 25), Buffer.from([0x45])]) {
      assert.isUndefined(segmentOf(packet(101, bytes)))
    }
    assert.isUndefined(segmentOf(packet(999, ip)))
  })
})

describe("a connection of a capture", () => {
  const segment = (from: "c" | "s", sequence: number, payload: string, more: Partial<Segment> = {}): Segment => ({
    from: from === "c" ? "10.0.0.1:50000" : "10.0.0.2:9000",
    to: from === "c" ? "10.0.0.2:9000" : "10.0.0.1:50000",
    fromPort: from === "c" ? 50000 : 9000,
    toPort: from === "c" ? 9000 : 50000,
    sequence: sequence >>> 0,
    syn: false,
    ack: true,
    fin: false,
    reset: false,
    payload: text(payload),
    missing: 0,
    ...more
  })
  const run = (...segments: ReadonlyArray<Segment>) => {
    const reassembly = new Reassembly(() => true)
    return [...segments.flatMap((one, i) => reassembly.push(one, i)), ...reassembly.end(99)]
  }
  const begin = (at: number) => [segment("c", at - 1, "", { syn: true, ack: false })]

  it("has its bytes in order and once, also across the end of the numbers", () => {
    for (const at of [100, 0xfffffffe]) {
      const events = run(
        ...begin(at),
        segment("c", at + 2, "cd"),
        segment("c", at, "ab"),
        // Again, as a whole and in part.
        segment("c", at, "ab"),
        segment("c", at + 2, "cdef"),
        // A keep-alive repeats the last byte.
        segment("c", at + 5, "f"),
        segment("c", at + 6, "", { fin: true })
      )
      assert.deepStrictEqual(summary(events), { client: "ab|cd|ef|Ended", server: "" })
    }
  })

  it("says what it misses", () => {
    const lost = run(...begin(100), segment("c", 100, "ab"), segment("c", 105, "fg"))
    assert.strictEqual(summary(lost).client, "ab|-3|fg")
    const cut = run(...begin(100), segment("c", 100, "ab", { missing: 3 }), segment("c", 105, "fg"))
    assert.strictEqual(summary(cut).client, "ab|-3|fg")
    // So far off that it is as far ahead as behind: one that has been there, and nothing waits for it.
    assert.strictEqual(summary(run(...begin(100), segment("c", 100 + 2 ** 31, "ab"))).client, "")
    // A gap that is never filled does not keep everything.
    const many = Array.from({ length: 5000 }, (_, i) => segment("c", 200 + i, "x"))
    assert.match(summary(run(...begin(100), ...many)).client, /^-100\|x\|/)
  })

  it("is reset, and its port is used again", () => {
    const events = run(
      ...begin(100),
      segment("c", 100, "ab", { reset: true }),
      ...begin(5000),
      segment("c", 5000, "new")
    )
    assert.deepStrictEqual(
      events.map((event) => `${event.connection.number} ${event._tag}`),
      ["1 Opened", "1 Bytes", "1 Reset", "2 Opened", "2 Bytes"]
    )
  })

  it("is known without its beginning", () => {
    const reassembly = new Reassembly(({ fromPort }) => fromPort !== 9000)
    const events = reassembly.push(segment("s", 1, "late"), 0)
    assert.include(events[0]!.connection, { client: "10.0.0.1:50000", server: "10.0.0.2:9000" })
    assert.strictEqual(summary(events).server, "late")
  })
})
