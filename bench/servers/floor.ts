/**
 * The floor: what Node's sockets allow. A hand-written loop over record headers, one precomputed reply with the request id patched
 * in, and one write for all replies of a socket read. Which reply it is told when it starts. It decodes no parameter, checks nothing, and does nothing that
 * a real server needs beyond that.
 */
import * as Net from "node:net"
import { backlog, hello, large, socketPath } from "./content.ts"

const record = (type: number, content: Uint8Array): Uint8Array => {
  const padding = -content.length & 7
  const bytes = new Uint8Array(8 + content.length + padding)
  bytes.set([1, type, 0, 0, content.length >> 8, content.length & 0xff, padding])
  bytes.set(content, 8)
  return bytes
}

const reply = (
  contentType: string,
  body: Uint8Array
): { readonly bytes: Uint8Array; readonly ids: ReadonlyArray<number> } => {
  const head = Buffer.from(`Status: 200\r\nContent-Type: ${contentType}\r\nContent-Length: ${body.length}\r\n\r\n`)
  const content = Buffer.concat([head, body])
  const records: Array<Uint8Array> = []
  for (let at = 0; at < content.length; at += 65528) records.push(record(6, content.subarray(at, at + 65528)))
  records.push(record(6, new Uint8Array()), record(3, new Uint8Array(8)))
  const ids: Array<number> = []
  let offset = 0
  for (const one of records) {
    ids.push(offset + 2)
    offset += one.length
  }
  return { bytes: Buffer.concat(records), ids }
}

const replies = {
  hello: reply("text/plain", Buffer.from(hello)),
  download: reply("application/octet-stream", large),
  upload: reply("text/plain", Buffer.from(String(large.length))),
  stream: reply("application/octet-stream", large)
}
const wanted = replies[process.argv[3] as keyof typeof replies]

const stamp = (bytes: Uint8Array, start: number, ids: ReadonlyArray<number>, id: number): void => {
  for (const at of ids) {
    bytes[start + at] = id >> 8
    bytes[start + at + 1] = id & 0xff
  }
}

// A large reply is precomputed for each id, so that it is written without being copied.
const largeReplies = new Map<number, Uint8Array>()
const largeReply = (id: number): Uint8Array => {
  let bytes = largeReplies.get(id)
  if (bytes === undefined) {
    bytes = replies.download.bytes.slice()
    stamp(bytes, 0, replies.download.ids, id)
    largeReplies.set(id, bytes)
  }
  return bytes
}

const arena = Buffer.allocUnsafeSlow(256 * 1024)

const server = Net.createServer((socket) => {
  const ending = new Set<number>()
  let header = Buffer.alloc(0)
  let skip = 0
  let filled = 0
  const close = () => socket.destroy()

  const answer = (id: number): void => {
    const { bytes, ids } = wanted
    // Over a UNIX socket the kernel keeps what has been written when the socket is closed.
    const written = ending.delete(id) ? close : undefined
    if (bytes.length > arena.length) {
      flush()
      socket.write(largeReply(id), written)
    } else {
      if (filled + bytes.length > arena.length) flush()
      arena.set(bytes, filled)
      stamp(arena, filled, ids, id)
      filled += bytes.length
      if (written !== undefined) flush(written)
    }
  }

  const flush = (written?: () => void): void => {
    if (filled === 0) return
    socket.write(Buffer.from(arena.subarray(0, filled)), written)
    filled = 0
  }

  socket.on("data", (chunk: Buffer) => {
    let at = Math.min(skip, chunk.length)
    skip -= at
    while (at < chunk.length) {
      let bytes = chunk
      let start = at
      if (header.length > 0 || chunk.length - at < 8) {
        const missing = 8 - header.length
        header = Buffer.concat([header, chunk.subarray(at, at + missing)])
        if (header.length < 8) break
        at += missing
        bytes = header
        start = 0
        header = Buffer.alloc(0)
      } else {
        at += 8
      }
      const type = bytes[start + 1]!
      const id = bytes[start + 2]! << 8 | bytes[start + 3]!
      const length = bytes[start + 4]! << 8 | bytes[start + 5]!
      const end = at + length + bytes[start + 6]!
      // The floor takes BEGIN_REQUEST where it is whole in one read, as it is at the start of a request.
      if (type === 1 && chunk[at + 2] === 0) ending.add(id)
      if (type === 5 && length === 0) answer(id)
      skip = Math.max(0, end - chunk.length)
      at = Math.min(end, chunk.length)
    }
    flush()
  })
  socket.on("error", () => socket.destroy())
})

server.listen({ path: socketPath(), backlog })
