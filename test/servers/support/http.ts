/**
 * An HTTP client that sends exactly what a test says, sees a response as it arrives, and can go away at any moment.
 */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Http from "node:http"

/** There was no response, or not the whole of it. */
export class HttpError extends Data.TaggedError("HttpError")<{ readonly message: string }> {}

export interface RequestOptions {
  readonly method?: string | undefined
  readonly headers?: Http.OutgoingHttpHeaders | undefined
  /** Sent with its length when it is one array, and in chunks when it is several. */
  readonly body?: string | Uint8Array | AsyncIterable<Uint8Array> | Iterable<Uint8Array> | undefined
  /** Whose connections are used. `request` has one for all, `open` takes a new connection. */
  readonly agent?: Http.Agent | undefined
  /** Sends `Expect: 100-continue`, and the body only when the server has said `100 Continue`. */
  readonly expectContinue?: boolean | undefined
  /** Sent behind a body in chunks. */
  readonly trailers?: Readonly<Record<string, string>> | undefined
}

export interface Response {
  readonly status: number
  readonly reason: string
  /** Names in lower case; the last value of a name. */
  readonly headers: Readonly<Record<string, string>>
  readonly setCookies: ReadonlyArray<string>
  readonly body: Buffer
  readonly text: string
}

const agent = new Http.Agent({ keepAlive: true, maxSockets: 16 })

/** For requests that are answered before their body has been sent: what goes wrong with it later is no matter to others. */
export const uploads = new Http.Agent({ keepAlive: true, maxSockets: 16 })

const deadline = "60 seconds"

/** Sends a request to 127.0.0.1 and reads the response to its end. The target is sent byte for byte (latin1). */
export const request = (
  port: number,
  target: string,
  options: RequestOptions = {}
): Effect.Effect<Response, HttpError> =>
  Effect.scoped(Effect.flatMap(open(port, target, { agent, ...options }), (opened) => opened.whole))

/** A response of which the head has arrived. */
export interface Opened {
  readonly status: number
  readonly headers: Http.IncomingHttpHeaders
  /** Waits until at least so many bytes of the body have arrived, and gives all that have. */
  readonly received: (size: number) => Effect.Effect<Buffer, HttpError>
  /** Waits for the end. Fails when the response is cut off. */
  readonly whole: Effect.Effect<Response, HttpError>
  /** Waits for the end and gives all bytes without keeping them. */
  readonly drain: (onData: (chunk: Buffer) => void) => Effect.Effect<void, HttpError>
  /** Closes the connection. */
  readonly leave: Effect.Effect<void>
}

/** Sends a request and waits for the head of the response. The connection is closed with the scope. */
export const open = (
  port: number,
  target: string,
  options: RequestOptions = {}
): Effect.Effect<Opened, HttpError, Scope.Scope> =>
  Effect.gen(function*() {
    const { message, outgoing } = yield* Effect.acquireRelease(
      send(port, target, options),
      ({ message, outgoing }) =>
        Effect.sync(() => {
          if (!message.complete) outgoing.destroy()
        }),
      // Before the head has arrived the client may be interrupted, and leaves.
      { interruptible: true }
    )
    const chunks: Array<Buffer> = []
    let size = 0
    let end: "complete" | "cut off" | undefined
    const waiting = new Set<() => void>()
    let onData: ((chunk: Buffer) => void) | undefined
    const changed = () => {
      for (const look of waiting) look()
    }
    const listen = () => {
      message.on("data", (chunk: Buffer) => {
        size += chunk.length
        if (onData === undefined) chunks.push(chunk)
        else onData(chunk)
        changed()
      })
    }
    let listening = false
    const start = () => {
      if (listening) return
      listening = true
      listen()
    }
    message.on("end", () => {
      end = message.complete ? "complete" : "cut off"
      changed()
    })
    message.on("error", () => {})
    message.on("close", () => {
      end ??= "cut off"
      changed()
    })
    const wait = <A>(what: string, look: () => Effect.Effect<A, HttpError> | undefined): Effect.Effect<A, HttpError> =>
      Effect.callback<A, HttpError>((resume) => {
        const again = () => {
          const found = look()
          if (found === undefined) return
          waiting.delete(again)
          resume(found)
        }
        waiting.add(again)
        start()
        again()
        return Effect.sync(() => waiting.delete(again))
      }).pipe(Effect.timeoutOrElse({
        duration: deadline,
        orElse: () =>
          Effect.fail(new HttpError({ message: `${target}: ${what}: not within ${deadline}, ${size} bytes so far` }))
      }))
    const ended: Effect.Effect<void, HttpError> = Effect.suspend(() =>
      wait("the end of the body", () =>
        end === undefined
          ? undefined
          : end === "complete"
          ? Effect.void
          : Effect.fail(new HttpError({ message: `${target}: cut off after ${size} bytes` })))
    )
    return {
      status: message.statusCode ?? 0,
      headers: message.headers,
      received: (wanted) =>
        wait(`${wanted} bytes`, () =>
          size >= wanted
            ? Effect.succeed(Buffer.concat(chunks))
            : end === undefined
            ? undefined
            : Effect.fail(new HttpError({ message: `${target}: ${end} after ${size} bytes` }))),
      whole: Effect.map(ended, () => toResponse(message, Buffer.concat(chunks))),
      drain: (take) => {
        onData = take
        return ended
      },
      leave: Effect.sync(() => {
        outgoing.destroy()
      })
    }
  })

const toResponse = (message: Http.IncomingMessage, body: Buffer): Response => ({
  status: message.statusCode ?? 0,
  reason: message.statusMessage ?? "",
  headers: Object.fromEntries(
    Object.entries(message.headers).map((
      [name, value]
    ) => [name, Array.isArray(value) ? value.join(", ") : value ?? ""])
  ),
  setCookies: message.headers["set-cookie"] ?? [],
  body,
  get text() {
    return body.toString()
  }
})

const send = (
  port: number,
  target: string,
  options: RequestOptions
): Effect.Effect<{ readonly outgoing: Http.ClientRequest; readonly message: Http.IncomingMessage }, HttpError> =>
  Effect.callback<{ readonly outgoing: Http.ClientRequest; readonly message: Http.IncomingMessage }, HttpError>(
    (resume) => {
      const { body } = options
      const whole = typeof body === "string" || body instanceof Uint8Array ? body : undefined
      const outgoing = Http.request({
        host: "127.0.0.1",
        port,
        path: target,
        method: options.method ?? "GET",
        agent: options.agent ?? false,
        headers: {
          host: "example.test",
          ...(whole === undefined ? {} : { "content-length": Buffer.byteLength(whole) }),
          ...(options.expectContinue === true ? { expect: "100-continue" } : {}),
          ...(options.trailers === undefined ? {} : { trailer: Object.keys(options.trailers).join(", ") }),
          ...options.headers
        }
      })
      outgoing.on("response", (message) => resume(Effect.succeed({ outgoing, message })))
      outgoing.on("error", (error) => resume(Effect.fail(new HttpError({ message: `${target}: ${error.message}` }))))
      const sendBody = () => {
        if (body === undefined || whole !== undefined) outgoing.end(whole)
        else void pump(body as AsyncIterable<Uint8Array>, outgoing, options.trailers)
      }
      if (options.expectContinue === true) {
        outgoing.on("continue", sendBody)
        outgoing.flushHeaders()
      } else {
        sendBody()
      }
      return Effect.sync(() => {
        outgoing.destroy()
      })
    }
  ).pipe(Effect.timeoutOrElse({
    duration: deadline,
    orElse: () => Effect.fail(new HttpError({ message: `${target}: no response within ${deadline}` }))
  }))

// Ends quietly when the connection is gone: a server may answer, and close, before it has taken the whole body.
const pump = async (
  body: AsyncIterable<Uint8Array>,
  outgoing: Http.ClientRequest,
  trailers: Readonly<Record<string, string>> = {}
): Promise<void> => {
  let closed = false
  outgoing.on("close", () => {
    closed = true
  })
  for await (const piece of body) {
    if (closed) return
    if (!outgoing.write(piece)) {
      await new Promise<void>((resolve) => {
        const proceed = () => {
          outgoing.off("drain", proceed)
          outgoing.off("close", proceed)
          resolve()
        }
        outgoing.on("drain", proceed)
        outgoing.on("close", proceed)
      })
    }
  }
  if (closed) return
  outgoing.addTrailers(trailers)
  outgoing.end()
}
