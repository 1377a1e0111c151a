/**
 * What an app written for `node:http` meets behind a web server, without one: a listener in memory, and a script or a client.
 */
import { assert, describe, it } from "@effect/vitest"
import { FastCgiAdmission, FastCgiRecord } from "effect-fastcgi"
import { FastCgiHttpClient } from "effect-fastcgi/client"
import { NodeFastCgiApp } from "effect-fastcgi/node"
import { FastCgiTest } from "effect-fastcgi/testing"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as HttpBody from "effect/http/HttpBody"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Http from "node:http"
import type * as Net from "node:net"
import { Duplex, finished } from "node:stream"
import { within } from "../support/within.ts"

const server = (handler: NodeFastCgiApp.NodeHandler, options?: Parameters<typeof NodeFastCgiApp.layerNodeServer>[1]) =>
  Layer.provideMerge(
    NodeFastCgiApp.layerNodeServer(handler, options),
    Layer.mergeAll(FastCgiTest.layerMemory, FastCgiAdmission.layer(), Logger.layer([]))
  )

const client = (options?: { readonly params?: Record<string, string> }) =>
  Effect.flatMap(
    FastCgiTest.FastCgiMemory,
    (memory) => FastCgiHttpClient.make({ connect: memory.connect, keepConnection: true, ...options })
  )

/** A case with an app: `run` has the client, `peer` the script. */
const test = <A, E>(
  name: string,
  handler: () => NodeFastCgiApp.NodeHandler,
  run: Effect.Effect<A, E, FastCgiTest.FastCgiMemory | Scope.Scope>,
  options?: Parameters<typeof NodeFastCgiApp.layerNodeServer>[1]
) =>
  it.live(
    name,
    () =>
      within("the end of the case")(
        Effect.scoped(Effect.suspend(() => Effect.provide(run, server(handler(), options))))
      )
  )

const get = (url: string, headers: Record<string, string> = {}) =>
  Effect.flatMap(client(), (client) => client.get(`http://app.test${url}`, { headers }))

const getText = (url: string) => Effect.flatMap(get(url), (response) => response.text)

/** Resolves what a callback is called with. */
const signal = <A>() => {
  const deferred = Deferred.makeUnsafe<A>()
  return {
    call: (value: A) => {
      Deferred.doneUnsafe(deferred, Effect.succeed(value))
    },
    called: Deferred.await(deferred)
  }
}

describe("NodeFastCgiApp for node:http", () => {
  test(
    "gives real messages of node:http, with what the web server says on their socket",
    () => (request, response) => {
      assert.instanceOf(request, Http.IncomingMessage)
      assert.instanceOf(response, Http.ServerResponse)
      assert.instanceOf(request.socket, Duplex)
      assert.strictEqual(request.socket, response.socket)
      const socket = request.socket as Net.Socket & { encrypted?: boolean; remoteUser?: string; authorized?: boolean }
      response.setHeader("Content-Type", "application/json")
      response.end(JSON.stringify({
        method: request.method,
        url: request.url,
        httpVersion: request.httpVersion,
        headers: request.headers,
        rawHeaders: request.rawHeaders,
        distinct: request.headersDistinct["x-many"],
        complete: request.complete,
        remote: [socket.remoteAddress, socket.remotePort, socket.remoteFamily],
        local: [socket.localAddress, socket.localPort, socket.localFamily],
        encrypted: socket.encrypted,
        authorized: socket.authorized,
        remoteUser: socket.remoteUser,
        variable: NodeFastCgiApp.variables(request)?.get("X_OWN")
      }))
    },
    Effect.gen(function*() {
      const peer = yield* (yield* FastCgiTest.FastCgiMemory).peer
      yield* peer.request({
        params: {
          REQUEST_METHOD: "GET",
          REQUEST_URI: "/app/a%2Fb?c=d",
          REMOTE_ADDR: "2001:db8::1",
          REMOTE_PORT: "4711",
          REMOTE_USER: "ada",
          SERVER_ADDR: "192.0.2.1",
          SERVER_PORT: "443",
          HTTPS: "on",
          SSL_CLIENT_VERIFY: "SUCCESS",
          X_OWN: "own",
          HTTP_HOST: "app.test",
          HTTP_X_MANY: "1, 2",
          HTTP_USER_AGENT: "script",
          CONTENT_LENGTH: "",
          CONTENT_TYPE: ""
        }
      })
      const { stdout } = yield* peer.reply()
      const seen = JSON.parse(stdout.slice(stdout.indexOf("\r\n\r\n") + 4))
      assert.deepStrictEqual(seen, {
        method: "GET",
        url: "/a%2Fb?c=d",
        httpVersion: "1.1",
        headers: { host: "app.test", "x-many": "1, 2", "user-agent": "script" },
        rawHeaders: ["X-Many", "1, 2", "User-Agent", "script", "Host", "app.test"],
        distinct: ["1, 2"],
        complete: true,
        remote: ["2001:db8::1", 4711, "IPv6"],
        local: ["192.0.2.1", 443, "IPv4"],
        encrypted: true,
        authorized: true,
        remoteUser: "ada",
        variable: "own"
      })
    }),
    { basePath: "/app" }
  )

  const asked: Readonly<Record<string, (request: Http.IncomingMessage) => unknown>> = {
    "headers first": ({ headers, rawHeaders }) => [headers["x-own"], rawHeaders.includes("X-Own")],
    "raw headers first": ({ rawHeaders, headers }) => [headers["x-own"], rawHeaders.includes("X-Own")],
    "distinct headers first": ({ headersDistinct, headers }) => [headers["x-own"], "x-own" in headersDistinct],
    "with another prototype, as Express gives it": (request) => {
      Object.setPrototypeOf(request, Object.create(Http.IncomingMessage.prototype))
      return [request.headers["x-own"], request.rawHeaders.includes("X-Own")]
    },
    "given by the app": (request) => {
      request.headers = { "x-own": "yes", "x-app": "too" }
      return [request.headers["x-own"], request.rawHeaders.includes("X-Own"), request.headers["x-app"]]
    }
  }
  test(
    "reads the headers when it is first asked for them, in whatever way",
    () => (request, response) => {
      response.end(JSON.stringify(Object.values(asked)[Number(request.url!.slice(1))]!(request)))
    },
    Effect.gen(function*() {
      for (const [index, way] of Object.keys(asked).entries()) {
        const answer = JSON.parse(yield* (yield* get(`/${index}`, { "x-own": "yes" })).text)
        assert.deepStrictEqual(answer.slice(0, 2), ["yes", true], way)
      }
    })
  )

  const over: Array<readonly [Http.IncomingMessage, Http.ServerResponse]> = []
  const socketEnded = signal<unknown>()
  test(
    "has closed a response and its socket where nobody has listened",
    () => (request, response) => {
      over.push([request, response])
      response.end("over")
    },
    Effect.gen(function*() {
      yield* getText("/")
      yield* getText("/")
      const [request, response] = over[0]!
      const { socket } = request
      assert.deepStrictEqual(
        [response.writableFinished, response.closed, response.destroyed, socket.closed, socket.destroyed],
        [true, true, true, true, true]
      )
      assert.isFalse(socket.writable)
      finished(socket, socketEnded.call)
      yield* socketEnded.called
    })
  )

  test(
    "sends a response that ends at once in one piece, with its length and nothing that is the web server's business",
    () => (_request, response) => {
      response.writeHead(
        201,
        "Made",
        [["Location", "/x"], ["X-Many", "1"], ["X-Many", "2"], ["Set-Cookie", "a=1"], [
          "set-cookie",
          "b=2"
        ], ["Transfer-Encoding", "chunked"]].flat()
      )
      response.end("grüße")
    },
    Effect.gen(function*() {
      const peer = yield* (yield* FastCgiTest.FastCgiMemory).peer
      yield* peer.request()
      const { appStatus, stderr, stdout } = yield* peer.reply()
      assert.strictEqual(stderr, "")
      assert.strictEqual(appStatus, 0)
      assert.strictEqual(
        stdout,
        "Location: /x\r\nStatus: 201 Made\r\nX-Many: 1, 2\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n\r\ngrüße"
      )
    })
  )

  test(
    "counts the length of what ends at once",
    () => (request, response) => {
      if (request.url === "/empty") response.end()
      else if (request.url === "/latin1") response.end("é", "latin1")
      else if (request.url === "/bytes") response.end(new Uint8Array(5))
      else response.end("é")
    },
    Effect.gen(function*() {
      for (
        const [url, length, size] of [["/", "2", 2], ["/latin1", "1", 1], ["/bytes", "5", 5], [
          "/empty",
          "0",
          0
        ]] as const
      ) {
        const response = yield* get(url)
        assert.strictEqual(response.headers["content-length"], length, url)
        assert.strictEqual((yield* response.arrayBuffer).byteLength, size, url)
      }
    })
  )

  const events: Array<string> = []
  test(
    "emits the events of a response in the order of node:http",
    () => (request, response) => {
      events.length = 0
      for (const name of ["prefinish", "finish", "close"]) response.on(name, () => events.push(name))
      for (const name of ["end", "close"]) request.on(name, () => events.push(`request ${name}`))
      response.write("a", () => events.push("written"))
      setImmediate(() => response.end("b", () => events.push("ended")))
      if (request.url === "/wait") finished(response, () => events.push("over"))
    },
    Effect.gen(function*() {
      assert.strictEqual(yield* getText("/"), "ab")
      const response = yield* get("/wait")
      assert.strictEqual(yield* response.text, "ab")
      yield* Effect.promise(async () => {
        while (!events.includes("over") || !events.includes("request close")) await new Promise(setImmediate)
      })
      // When the callback of `end` has its turn differs between versions of Node.
      assert.deepStrictEqual(
        events.filter((name) => !name.startsWith("request") && name !== "ended"),
        ["written", "prefinish", "finish", "close", "over"]
      )
      assert.include(events, "ended")
      assert.include(events, "request end")
    })
  )

  test(
    "streams with backpressure, and echoes a body of any size",
    () => (request, response) => {
      request.pipe(response)
    },
    Effect.gen(function*() {
      const chunk = new Uint8Array(100_003).fill(7)
      const body = Stream.fromIterable(Array.from({ length: 80 }, () => chunk))
      const response = yield* (yield* client()).execute(
        HttpClientRequest.setBody(HttpClientRequest.post("http://app.test/"), HttpBody.stream(body))
      )
      const size = yield* Stream.runFold(response.stream, () => 0, (size, chunk) => size + chunk.length)
      assert.strictEqual(size, 80 * chunk.length)
    })
  )

  const writes = { most: 0 }
  test(
    "waits for a peer that takes nothing",
    () => (_request, response) => {
      const chunk = Buffer.alloc(16_384)
      const fill = () => {
        while (response.write(chunk)) writes.most++
      }
      response.on("drain", () => {
        writes.most++
        if (writes.most < 2000) fill()
        else response.end()
      })
      fill()
    },
    Effect.gen(function*() {
      const peer = yield* (yield* FastCgiTest.FastCgiMemory).peer
      yield* peer.request()
      // It has taken nothing yet: what was written is what the buffers on the way hold.
      yield* Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))
      assert.isBelow(writes.most, 40)
      const end = yield* peer.reply()
      assert.isAbove(end.stdout.length, 16_384 * 1000)
    })
  )

  test(
    "answers 500 where a handler throws or rejects, and breaks off what has begun",
    () => (request, response) => {
      if (request.url === "/throws") throw new Error("thrown")
      if (request.url === "/rejects") return Promise.reject(new Error("rejected"))
      if (request.url === "/destroys") return response.destroy()
      if (request.url === "/socket") return request.socket.destroy(new Error("socket"))
      if (request.url === "/late") {
        response.write("begun")
        return new Promise((_, reject) => setImmediate(reject, new Error("late")))
      }
      if (request.url === "/raw") return request.socket.write("no response\r\n\r\n")
      if (request.url === "/101") return response.writeHead(101).end()
      response.end("fine")
    },
    Effect.gen(function*() {
      for (const url of ["/throws", "/rejects", "/destroys", "/socket", "/raw", "/101"]) {
        assert.strictEqual((yield* get(url)).status, 500, url)
      }
      const cut = yield* Effect.exit(getText("/late"))
      assert.strictEqual(cut._tag, "Failure")
      assert.strictEqual(yield* getText("/"), "fine")
    })
  )

  const closed = signal<ReadonlyArray<unknown>>()
  test(
    "tells request and response when the client goes away",
    () => (request, response) => {
      const seen: Array<unknown> = []
      request.on("aborted", () => seen.push("aborted"))
      request.on("error", (error: NodeJS.ErrnoException) => seen.push(error.code))
      response.on("finish", () => seen.push("finish"))
      response.on("close", () => {
        seen.push("close")
        setImmediate(() => closed.call([...seen, response.writableEnded, request.destroyed, response.write("more")]))
      })
      request.resume()
      response.write("first")
    },
    Effect.gen(function*() {
      const memory = yield* FastCgiTest.FastCgiMemory
      const peer = yield* memory.peer
      yield* peer.request({ params: { REQUEST_METHOD: "POST", REQUEST_URI: "/", CONTENT_LENGTH: "10" }, stdin: "open" })
      yield* peer.receive
      yield* peer.reset
      const seen = yield* closed.called
      assert.includeMembers([...seen], ["aborted", "close", "ECONNRESET"])
      assert.notInclude(seen, "finish")
      assert.deepStrictEqual(seen.slice(-3), [false, true, false])
    })
  )

  test(
    "leaves out interim responses and answers an upgrade as a request",
    () => (request, response) => {
      response.writeEarlyHints({ link: "</style.css>; rel=preload" }, () => {
        response.writeProcessing()
        response.writeContinue()
        response.end(`upgrade ${request.headers.upgrade}`)
      })
    },
    Effect.gen(function*() {
      const peer = yield* (yield* FastCgiTest.FastCgiMemory).peer
      yield* peer.request({
        params: { REQUEST_METHOD: "GET", REQUEST_URI: "/", HTTP_UPGRADE: "websocket", HTTP_CONNECTION: "upgrade" }
      })
      assert.strictEqual(
        (yield* peer.reply()).stdout,
        "Status: 200 OK\r\nContent-Length: 17\r\n\r\nupgrade websocket"
      )
    })
  )

  test(
    "gives the whole body to an app that has answered while it reads",
    () => {
      let size = 0
      return (request, response) => {
        if (request.url === "/size") return response.end(String(size))
        request.on("data", (chunk: Buffer) => {
          size += chunk.length
        })
        response.end("taken")
      }
    },
    Effect.gen(function*() {
      const peer = yield* (yield* FastCgiTest.FastCgiMemory).peer
      yield* peer.request({ params: { REQUEST_METHOD: "POST", REQUEST_URI: "/", CONTENT_LENGTH: "10" }, stdin: "open" })
      const first = yield* peer.receive
      assert.strictEqual(first._tag, "Stdout")
      yield* peer.send(FastCgiRecord.stdin(1, new Uint8Array(10)), FastCgiRecord.stdin(1))
      yield* peer.reply()
      assert.strictEqual(yield* getText("/size"), "10")
    })
  )

  test(
    "has timeouts, and closes where nobody takes care of them",
    () => (request, response) => {
      if (request.url === "/handled") response.setTimeout(5, () => response.end("too slow"))
      else request.setTimeout(5)
    },
    Effect.gen(function*() {
      assert.strictEqual(yield* getText("/handled"), "too slow")
      assert.strictEqual((yield* get("/")).status, 500)
    })
  )

  test(
    "answers 400 to CR and LF in a header",
    () => (_request, response) => response.end(),
    Effect.gen(function*() {
      const peer = yield* (yield* FastCgiTest.FastCgiMemory).peer
      yield* peer.request({ params: { REQUEST_METHOD: "GET", REQUEST_URI: "/", HTTP_X_BAD: "a\r\nb" } })
      assert.match((yield* peer.reply()).stdout, /^Status: 400 /)
    })
  )
})
