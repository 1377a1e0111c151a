/**
 * What the cases of the shared HTTP suite are written with: the services a transport provides, its capabilities, and
 * small helpers for the server's and the client's side. Nothing here knows which transport is under test.
 */
import { assert, it } from "@effect/vitest"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as FileSystem from "effect/FileSystem"
import type * as Etag from "effect/http/Etag"
import * as HttpClient from "effect/http/HttpClient"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as HttpClientResponse from "effect/http/HttpClientResponse"
import type * as HttpPlatform from "effect/http/HttpPlatform"
import * as HttpRouter from "effect/http/HttpRouter"
import type * as HttpServer from "effect/http/HttpServer"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as Path from "effect/Path"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { within } from "../../support/within.ts"

/**
 * What `NodeHttpServer.layerTest` provides, and so every transport of the suite. The client takes URLs that start with
 * "/".
 */
export type Services =
  | HttpServer.HttpServer
  | HttpClient.HttpClient
  | FileSystem.FileSystem
  | Path.Path
  | HttpPlatform.HttpPlatform
  | Etag.Generator

/** The shutdown options of `NodeHttpServer`, under the same names. */
export interface ShutdownOptions {
  readonly gracefulShutdownTimeout?: Duration.Input | undefined
  readonly disablePreemptiveShutdown?: boolean | undefined
}

/** How a transport differs from the others, each with its reason. Everything not named here is the same for all. */
export interface Capabilities {
  /** The same layer with shutdown options; without it the cases that need other than the defaults are left out. */
  readonly layerWith?: ((options: ShutdownOptions) => Layer.Layer<Services, unknown>) | undefined
  /**
   * Why a response does not begin before the first chunk of a streamed body. `node:http` keeps the head back until
   * there is a byte of body to send with it.
   */
  readonly headWaitsForBody?: string | undefined
  /**
   * Why a request may reach the app with no body length declared although the client knew it. `fetch` sends every
   * stream in chunks.
   */
  readonly streamLengthLost?: string | undefined
  /** Why a path that leads out of the root does not reach the app: whoever is in front of it answers 400. */
  readonly pathsOutRefused?: string | undefined
  /**
   * Why a request may be lost that is sent while the application ends the connection to cut off the response before it. On a
   * connection of several requests a client learns only by reading that the connection ends.
   */
  readonly cutOffTakesTheNext?: string | undefined
  /** Why a failing pre-response handler cannot be tested. `NodeHttpServer` leaves such a request without any answer. */
  readonly unansweredPreResponseFailure?: string | undefined
}

/**
 * Registers one case: its name states the behaviour, its body runs with a fresh layer, in a scope, on a `TestClock`.
 */
export type Test = <A, E>(name: string, body: () => Effect.Effect<A, E, Services | Scope.Scope>) => void

/** One part of the suite. */
export type Cases = (test: Test, capabilities: Capabilities) => void

/** A `Test` over one transport. A skipped case keeps its place in the report, with the reason in its name. */
export const makeTest = (layer: Layer.Layer<Services, unknown>): Test => (name, body) => {
  it.effect(name, () => within("the end of the case")(Effect.provide(Effect.suspend(body), layer)))
}

/** The case, or a skipped one that says why this transport does without it. */
export const testUnless = (test: Test, reason: string | undefined): Test =>
  reason === undefined ? test : (name) => it.skip(`${name} (${reason})`, () => {})

/** Serves routes until the scope closes, without the logger: most cases then take the server's shortest path. */
export const serve = <A, E, R>(routes: Layer.Layer<A, E, R>) =>
  Layer.build(HttpRouter.serve(routes, { disableLogger: true, disableListenLog: true }))

/** Serves routes with the default middleware, as `HttpRouter.serve` does: logger and tracer. */
export const serveLogged = <A, E, R>(routes: Layer.Layer<A, E, R>) =>
  Layer.build(HttpRouter.serve(routes, { disableListenLog: true }))

export const route = HttpRouter.add

export const request = HttpServerRequest.HttpServerRequest

export const empty = HttpServerResponse.empty()

export const get = (url: string, headers: Record<string, string> = {}) => HttpClient.get(url, { headers })

export const head = (url: string) => HttpClient.head(url)

export const getText = (url: string, headers: Record<string, string> = {}) =>
  Effect.flatMap(get(url, headers), (response) => response.text)

export const getJson = (url: string, headers: Record<string, string> = {}) =>
  Effect.flatMap(get(url, headers), (response) => response.json)

export const post = (url: string) => HttpClientRequest.post(url)

export const send = HttpClient.execute

export const sendText = (request: HttpClientRequest.HttpClientRequest) =>
  Effect.flatMap(HttpClient.execute(request), (response) => response.text)

/** The status, when all of the response has come. The body that a 204 has not is not read: `fetch` of Node 22 fails then. */
export const status = <E, R>(response: Effect.Effect<HttpClientResponse.HttpClientResponse, E, R>) =>
  Effect.flatMap(
    response,
    (response) => response.status === 204 ? Effect.succeed(204) : Effect.as(response.text, response.status)
  )

/** A request whose method is not one of those Effect names. */
export const method = (method: string, url: string): HttpClientRequest.HttpClientRequest =>
  HttpClientRequest.setMethod(HttpClientRequest.get(url), method as "GET")

/** Bytes in which a lost, doubled or moved piece shows. */
export const pattern = (size: number, seed = 0): Uint8Array<ArrayBuffer> => {
  const bytes = new Uint8Array(size)
  let state = (seed * 2654435761 + 1) >>> 0
  for (let i = 0; i < size; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    bytes[i] = state >>> 24
  }
  return bytes
}

/** Pieces of odd sizes, so that nothing lines up with a record or a buffer. */
export const pieces = (bytes: Uint8Array, size = 50_021): ReadonlyArray<Uint8Array> => {
  const all: Array<Uint8Array> = []
  for (let i = 0; i < bytes.length; i += size) all.push(bytes.subarray(i, i + size))
  return all
}

export const assertSameBytes = (actual: Uint8Array | ArrayBuffer, expected: Uint8Array): void => {
  const bytes = actual instanceof ArrayBuffer ? new Uint8Array(actual) : actual
  assert.strictEqual(bytes.length, expected.length)
  assert.isTrue(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).equals(expected), "the bytes differ")
}

export const encode = (text: string): Uint8Array<ArrayBuffer> => new TextEncoder().encode(text)

/** A body of text chunks as a stream of bytes. */
export const textStream = (...chunks: ReadonlyArray<string>): Stream.Stream<Uint8Array> =>
  Stream.map(Stream.fromIterable(chunks), encode)

/** A response that cannot be sent as it is must not pass for complete: reading it fails, or it is a 500 instead. */
export const assertBroken = <E, R>(response: Effect.Effect<HttpClientResponse.HttpClientResponse, E, R>) =>
  Effect.gen(function*() {
    const exit = yield* Effect.exit(
      Effect.flatMap(response, (response) => Effect.as(response.arrayBuffer, response.status))
    )
    if (Exit.isSuccess(exit)) assert.strictEqual(exit.value, 500, "the broken body looked complete")
  })

/**
 * The reason phrase, which `HttpClientResponse` has no place for: from the response of fetch, or from that of the
 * FastCGI client inside the one that `HttpClient` wraps around it.
 */
export const statusText = (response: HttpClientResponse.HttpClientResponse): unknown => {
  const web = HttpClientResponse.toWeb(response)
  if (Option.isSome(web)) return web.value.statusText
  const original = "original" in response ? response.original as object : response
  return "statusText" in original ? original.statusText : undefined
}
