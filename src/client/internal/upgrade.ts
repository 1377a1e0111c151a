/**
 * The connection of a gateway's client that asks for another protocol, and what is passed between it and the application once
 * that has taken it: no HTTP any more, bytes in both directions.
 *
 * The server has to be one of `node:http`, as of `NodeHttpServer`, which lets go of the connection of such a request. Effect's own
 * `upgrade` would shake hands with the client itself, and the application's subprotocol, extensions and key would be lost.
 */
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import type { HttpServerRequest } from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import type * as Pull from "effect/Pull"
import * as Stream from "effect/Stream"
import type { Chunks } from "../../connection/internal/inputStream.ts"
import type { Exchange } from "./exchange.ts"

/** A connection that the HTTP server has let go of, and the protocols that its client would go on with. */
export interface UpgradeRequest {
  readonly protocols: string
  readonly connection: NodeConnection
}

/** What the request asks for, where its connection can be handed over. */
export const upgradeOf = ({ headers, source }: HttpServerRequest): UpgradeRequest | undefined => {
  const protocols = headers["upgrade"]
  const { httpVersionMajor, socket, upgrade } = source as NodeSource
  if (
    protocols === undefined || upgrade !== true || httpVersionMajor !== 1 || !isConnection(socket) ||
    !tokens(headers["connection"] ?? "").includes("upgrade") || tokens(protocols).includes("h2c") ||
    headers["transfer-encoding"] !== undefined || Number(headers["content-length"] ?? 0) !== 0
  ) return undefined
  return { protocols, connection: socket }
}

/** What the application is told besides. */
export const upgradeParams = (
  { protocols }: UpgradeRequest,
  connection: string | undefined
): ReadonlyArray<readonly [name: string, value: string]> => [
  ["CONTENT_LENGTH", "0"],
  ["HTTP_UPGRADE", protocols],
  ["HTTP_CONNECTION", connection ?? "Upgrade"]
]

/** What the client sends, once the application has taken its connection; nothing, once it has not. */
export const clientBytes = (
  { connection }: UpgradeRequest,
  taken: Deferred.Deferred<boolean>
): Stream.Stream<Uint8Array> =>
  Stream.unwrap(Effect.map(Deferred.await(taken), (taken) => taken ? bytesOf(connection) : Stream.empty))

/**
 * Passes the application's 101 and what follows to the client, until either is at its end. The response says nothing: the
 * server has no connection any more to send it on.
 */
export const relay = (
  { connection }: UpgradeRequest,
  answer: Exchange,
  taken: Deferred.Deferred<boolean>
): Effect.Effect<HttpServerResponse.HttpServerResponse> =>
  Effect.gen(function*() {
    let head = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n"
    for (const [name, value] of answer.headers) head += `${name}: ${value}\r\n`
    connection.write(head + "\r\n", "latin1")
    Deferred.doneUnsafe(taken, Effect.succeed(true))
    // Without END_REQUEST it ends as well: there is no other way to tell the client.
    yield* Effect.ignore(toClient(connection, answer.pull))
    connection.end()
    yield* Effect.timeoutOption(closed(connection), farewellTime)
    connection.destroy()
    return HttpServerResponse.empty()
  })

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

// How long, in milliseconds, the client may take to close its end when the application has: bytes that arrive behind a close are
// answered by RST, and a client that has not read the last ones yet loses them.
const farewellTime = 2000

// Bytes that wait for a pull before the client is read no more.
const highWaterMark = 64 * 1024

interface NodeSource {
  readonly httpVersionMajor?: unknown
  readonly upgrade?: unknown
  readonly socket?: unknown
}

/** A socket of Node, as far as it is used here. */
interface NodeConnection {
  readonly destroyed: boolean
  on(event: string, listener: (chunk: Uint8Array) => void): unknown
  off(event: string, listener: (chunk: Uint8Array) => void): unknown
  write(chunk: Uint8Array | string, encoding?: "latin1"): boolean
  pause(): unknown
  resume(): unknown
  end(): unknown
  destroy(): unknown
}

const methods = ["on", "off", "write", "pause", "resume", "end", "destroy"]

const isConnection = (socket: unknown): socket is NodeConnection =>
  typeof socket === "object" && socket !== null &&
  methods.every((name) => typeof (socket as Record<string, unknown>)[name] === "function")

const tokens = (value: string): ReadonlyArray<string> => value.split(",").map((token) => token.trim().toLowerCase())

const bytesOf = (connection: NodeConnection): Stream.Stream<Uint8Array> =>
  Stream.fromPull(Effect.sync(() => {
    let chunks: Array<Uint8Array> = []
    let size = 0
    let ended = connection.destroyed
    let wake = () => {}
    const end = () => {
      ended = true
      wake()
    }
    connection.on("data", (chunk) => {
      chunks.push(chunk)
      size += chunk.length
      if (size >= highWaterMark) connection.pause()
      wake()
    })
    connection.on("end", end)
    connection.on("close", end)
    const waiting = Effect.callback<Chunks, Cause.Done>((resume) => {
      wake = () => resume(pull)
    })
    const pull: Pull.Pull<Chunks> = Effect.suspend(() => {
      if (size === 0) return ended ? Cause.done() : waiting
      const taken = chunks as unknown as Chunks
      chunks = []
      size = 0
      connection.resume()
      return Effect.succeed(taken)
    })
    return pull
  }))

const toClient = (connection: NodeConnection, pull: Exchange["pull"]) =>
  Stream.runForEachArray(Stream.fromPull(Effect.succeed(pull)), (chunks) => {
    let wantsMore = true
    for (const chunk of chunks) wantsMore = connection.write(chunk)
    return wantsMore ? Effect.void : drained(connection)
  })

const once = (connection: NodeConnection, events: ReadonlyArray<string>): Effect.Effect<void> =>
  Effect.callback((resume) => {
    if (connection.destroyed) return resume(Effect.void)
    const stop = () => {
      for (const event of events) connection.off(event, happened)
    }
    const happened = () => {
      stop()
      resume(Effect.void)
    }
    for (const event of events) connection.on(event, happened)
    return Effect.sync(stop)
  })

const drained = (connection: NodeConnection) => once(connection, ["drain", "close"])

const closed = (connection: NodeConnection) => once(connection, ["close"])
