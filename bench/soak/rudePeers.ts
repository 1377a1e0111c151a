/**
 * Peers that do what load generators do not: they abort, go away, and stop reading. Each says what went wrong, as text.
 */
import { FastCgiEncoder, FastCgiParams, FastCgiRecord } from "effect-fastcgi"
import * as Http from "node:http"
import * as Net from "node:net"
import { nginxParams } from "../harness/nginxParams.ts"
import { large } from "../servers/content.ts"

/** Where the server and nginx listen. */
export interface Addresses {
  readonly socket: string
  readonly port: number
}

/** How often something was done, and what went wrong. */
export interface Tally {
  readonly done: number
  readonly complaints: ReadonlyArray<string>
}

const params = (name: string, method: string, length: string) =>
  FastCgiParams.encodePairs(nginxParams.map(([param, value]) =>
    param === "REQUEST_METHOD"
      ? [param, method] as const
      : param === "CONTENT_LENGTH"
      ? [param, length] as const
      : [param, value.replaceAll("/bench/hello", `/bench/${name}`)] as const
  ))

const bytes = (...records: ReadonlyArray<FastCgiRecord.FastCgiRecord>): Uint8Array =>
  Buffer.concat(records.map((record) => FastCgiEncoder.encode(record)))

const begin = (keepConnection: boolean) =>
  FastCgiRecord.beginRequest(1, FastCgiRecord.Role.Responder, { keepConnection })

const get = (name: string, keepConnection: boolean): Uint8Array =>
  bytes(
    begin(keepConnection),
    FastCgiRecord.params(1, params(name, "GET", "")),
    FastCgiRecord.params(1),
    FastCgiRecord.stdin(1)
  )

/** Half of an upload. */
const halfUpload = bytes(
  begin(true),
  FastCgiRecord.params(1, params("upload", "POST", String(large.length))),
  FastCgiRecord.params(1),
  ...Array.from({ length: 16 }, () => FastCgiRecord.stdin(1, large.subarray(0, 32_768)))
)

const waiting = get("wait", true)
const download = get("download", false)
const abort = bytes(FastCgiRecord.abortRequest(1))

const pause = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds))

/** How long an answer may take on a machine that is busy, in milliseconds. */
const patience = 30_000

const connect = (socket: string): Promise<Net.Socket> =>
  new Promise((resolve, reject) => {
    const connection = Net.connect({ path: socket }, () => resolve(connection))
    connection.once("error", reject)
  })

/** Everything up to END_REQUEST; fails when the connection ends before. */
const answer = (connection: Net.Socket): Promise<number> =>
  new Promise((resolve, reject) => {
    let tail = Buffer.alloc(0)
    let length = 0
    const finish = (error?: Error) => {
      clearTimeout(timer)
      connection.off("data", onData).off("close", onClose)
      if (error === undefined) resolve(length)
      else reject(error)
    }
    const timer = setTimeout(() => finish(new Error("no END_REQUEST in 30 seconds")), patience)
    const onData = (chunk: Buffer) => {
      length += chunk.length
      tail = Buffer.concat([tail, chunk]).subarray(-16)
      if (tail[1] === FastCgiRecord.RecordType.EndRequest && tail.length === 16 && tail[5] === 8) finish()
    }
    const onClose = () => finish(new Error("closed before END_REQUEST"))
    connection.on("data", onData).on("close", onClose)
  })

/** Ten requests on a connection, each aborted: in the middle of its body, or while its handler runs. */
const aborts = async ({ socket }: Addresses): Promise<void> => {
  const connection = await connect(socket)
  try {
    for (let i = 0; i < 10; i++) {
      const answered = answer(connection)
      connection.write(i % 2 === 0 ? halfUpload : waiting)
      await pause(2)
      connection.write(abort)
      await answered
    }
  } finally {
    connection.destroy()
  }
}

/** Goes away while the handler runs, in the middle of a body, and in the middle of an answer. */
const leaves = async ({ socket }: Addresses): Promise<void> => {
  for (const request of [waiting, halfUpload, download]) {
    const connection = await connect(socket)
    connection.on("error", () => {})
    connection.write(request)
    if (request === download) await new Promise((resolve) => connection.once("data", resolve))
    else await pause(2)
    connection.destroy()
  }
}

/** Asks for 1 MiB, reads nothing for a while, and then all of it. */
const stalls = async ({ socket }: Addresses): Promise<void> => {
  const connection = await connect(socket)
  try {
    connection.write(download)
    await pause(300)
    const length = await answer(connection)
    if (length < large.length) throw new Error(`a stalled reader got ${length} bytes`)
  } finally {
    connection.destroy()
  }
}

const request = ({ port }: Addresses): Promise<Http.IncomingMessage> =>
  new Promise((resolve, reject) => {
    const request = Http.get({ host: "127.0.0.1", port, path: "/bench/download", agent: false }, resolve)
    request.setTimeout(patience, () => request.destroy(new Error("nginx did not answer in 30 seconds")))
    request.once("error", reject)
  })

/** A browser that goes away in the middle of a download. */
const browserLeaves = async (addresses: Addresses): Promise<void> => {
  const response = await request(addresses)
  response.on("error", () => {})
  await new Promise((resolve) => response.once("data", resolve))
  response.destroy()
}

/** A browser that stops in the middle of a download, and goes on. */
const browserStalls = async (addresses: Addresses): Promise<void> => {
  const response = await request(addresses)
  let length = 0
  let stalled = false
  for await (const chunk of response) {
    length += (chunk as Buffer).length
    if (!stalled) await pause(300)
    stalled = true
  }
  if (length !== large.length) throw new Error(`a stalled browser got ${length} bytes`)
}

const ways = { aborts, leaves, stalls, browserLeaves, browserStalls }

/** Every way, two at a time, again and again for so many seconds. */
export const beRude = async (
  addresses: Addresses,
  seconds: number
): Promise<Readonly<Record<keyof typeof ways, Tally>>> => {
  const until = performance.now() + seconds * 1000
  const tally = async (way: (addresses: Addresses) => Promise<void>): Promise<Tally> => {
    let done = 0
    const complaints: Array<string> = []
    const loop = async (): Promise<void> => {
      while (performance.now() < until && complaints.length < 10) {
        try {
          await way(addresses)
          done++
        } catch (error) {
          complaints.push(error instanceof Error ? error.message : String(error))
        }
      }
    }
    await Promise.all([loop(), loop()])
    return { done, complaints }
  }
  const [a, l, s, bl, bs] = await Promise.all(Object.values(ways).map(tally))
  return { aborts: a!, leaves: l!, stalls: s!, browserLeaves: bl!, browserStalls: bs! }
}
