/** What php-fpm 8.2, fcgiwrap 1.1 and a libfcgi 2.4.2 application were recorded to answer, understood by the client. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Stream from "effect/Stream"
import { readdirSync, readFileSync } from "node:fs"
import * as CgiResponse from "../../src/cgi/CgiResponse.ts"
import * as FastCgiClient from "../../src/client/FastCgiClient.ts"
import type { FastCgiClientError } from "../../src/client/FastCgiClientError.ts"
import * as Application from "./application.ts"
import { concat, textOf } from "./application.ts"

const directory = new URL("../vectors/server-side/", import.meta.url)
const vector = (name: string): Uint8Array => new Uint8Array(readFileSync(new URL(`${name}.out.bin`, directory)))

const params = [["REQUEST_METHOD", "GET"]] as const

// Any fragmentation of the bytes is the same answer.
const fragmentations: ReadonlyArray<readonly [string, (bytes: Uint8Array) => ReadonlyArray<Uint8Array>]> = [
  ["whole", (bytes) => [bytes]],
  ["byte by byte", (bytes) => Array.from(bytes, (_, i) => bytes.subarray(i, i + 1))]
]

interface Answer {
  readonly stdout: string
  readonly stderr: string
  readonly end: FastCgiClient.FastCgiClientEnd | FastCgiClientError
}

const read = (response: FastCgiClient.FastCgiClientResponse) =>
  Effect.gen(function*() {
    const text = (stream: Stream.Stream<Uint8Array, FastCgiClientError>) =>
      Stream.runFold(Stream.orElseSucceed(stream, () => new Uint8Array(0)), () =>
        [] as Array<Uint8Array>, (all, bytes) => {
        all.push(bytes)
        return all
      }).pipe(Effect.map((chunks) =>
        textOf(concat(chunks))
      ))
    const answer: Answer = {
      stdout: yield* text(response.stdout),
      stderr: yield* text(response.stderr),
      end: yield* Effect.catch(response.end, Effect.succeed)
    }
    return answer
  })

const reasonOf = (answer: Answer) => "reason" in answer.end ? answer.end.reason._tag : undefined

// Feeds `bytes` to a client that has begun `ids` requests, and returns what became of the last, or of those asked for.
const play = (
  bytes: Uint8Array,
  cut: (bytes: Uint8Array) => ReadonlyArray<Uint8Array>,
  ids: number,
  wanted: ReadonlyArray<number> = [ids]
) =>
  Effect.gen(function*() {
    const app = yield* Application.make({ capacity: 64 * 1024 * 1024 })
    const client = yield* FastCgiClient.make({ ...app, maxRequests: 65535 })
    const responses = new Map<number, FastCgiClient.FastCgiClientResponse>()
    for (let id = 1; id <= ids; id++) {
      responses.set(id, yield* client.request({ params }))
      // The application reads along.
      if (id % 64 === 0) yield* Effect.yieldNow
    }
    yield* app.untilTag("BeginRequest", ids)
    yield* app.sendBytes(...cut(bytes))
    yield* app.close
    return yield* Effect.forEach(wanted, (id) => read(responses.get(id)!))
  }).pipe(Effect.scoped)

const php = (body: string) => `X-From: fpm\r\nContent-type: text/html; charset=UTF-8\r\n\r\n${body}`
const noBody = "Content-type: text/html; charset=UTF-8\r\n\r\n"
const cgi = (body: string) => `Content-Type: text/plain\r\nX-From: fcgiwrap\r\n\r\n${body}`

describe("recorded answers", () => {
  for (const [how, cut] of fragmentations) {
    describe(how, () => {
      const answers: ReadonlyArray<
        readonly [name: string, stdout: string | RegExp, more?: { id?: number; stderr?: RegExp; appStatus?: number }]
      > = [
        ["php-fpm-get", php("php GET 0\n")],
        ["php-fpm-keep", php("php GET 0\n")],
        ["php-fpm-padded", php("php GET 0\n")],
        ["php-fpm-post", /^X-From: fpm\r\n[^]*\r\n\r\nphp POST 5\n$/],
        ["php-fpm-post-no-cl", /\r\n\r\nphp POST 0\n$/],
        ["php-fpm-exit3", /\r\n\r\nphp GET 0\n$/],
        ["php-fpm-stderr", /\r\n\r\n/, { stderr: /PHP message: .*/ }],
        ["php-fpm-missing-script", /^Status: 404 Not Found\r\n[^]*File not found/, {
          stderr: /Primary script unknown/
        }],
        ["php-fpm-id-7", php("php GET 0\n"), { id: 7 }],
        ["php-fpm-authorizer", php("php GET 0\n")],
        ["php-fpm-filter", php("php GET 0\n")],
        ["php-fpm-no-stdin-eof", /\r\n\r\nphp POST 5\n$|\r\n\r\nphp GET 0\n$/],
        ["fcgiwrap-get", cgi("cgi GET 0\n")],
        ["fcgiwrap-keep", cgi("cgi GET 0\n")],
        ["fcgiwrap-post", /\r\n\r\ncgi POST 5[^]*$/],
        ["fcgiwrap-stderr", /\r\n\r\n/, { stderr: /./ }],
        ["fcgiwrap-missing-script", /^Status: 403/, { stderr: /^Cannot get script name/ }],
        ["fcgiwrap-id-7", cgi("cgi GET 0\n"), { id: 7 }],
        [
          "libfcgi-get",
          /^Content-Type: text\/plain\r\n\r\npid=\d+ n=\d+ role=RESPONDER stdin=0 uri=\/ keep=0 data=-\n$/
        ],
        ["libfcgi-keep", /keep=1 data=-\n$/],
        ["libfcgi-post", /stdin=5 /],
        ["libfcgi-id-7", /role=RESPONDER/, { id: 7 }],
        ["libfcgi-filter", /role=FILTER/],
        // What follows was sent out of order, or in another role: what was answered is an answer all the same.
        ["php-fpm-abort-before-params", noBody],
        ["php-fpm-unknown-app-type", noBody],
        ["php-fpm-version-2", php("php GET 0\n")],
        ["php-fpm-getvalues-then-request", php("php GET 0\n")],
        ["fcgiwrap-exit3", cgi("cgi GET 0\n")],
        ["fcgiwrap-filter", cgi("cgi GET 0\n")],
        ["fcgiwrap-padded", cgi("cgi GET 0\n")],
        ["fcgiwrap-keep-two-pipelined", cgi("cgi GET 0\n")],
        ["fcgiwrap-post-no-cl", cgi("cgi POST 5\n")],
        ["fcgiwrap-unknown-app-type", /^Status: 403 Forbidden\r\n/, { stderr: /^Cannot get script name/ }],
        ["libfcgi-keep-two-pipelined", /keep=1 data=-\n$/],
        ["libfcgi-post-no-cl", /stdin=5 /]
      ]
      for (const [name, stdout, more] of answers) {
        it.effect(name, () =>
          Effect.gen(function*() {
            const [answer] = yield* play(vector(name), cut, more?.id ?? 1)
            if (typeof stdout === "string") assert.strictEqual(answer.stdout, stdout)
            else assert.match(answer.stdout, stdout)
            if (more?.stderr === undefined) assert.strictEqual(answer.stderr, "")
            else assert.match(answer.stderr, more.stderr)
            assert.deepStrictEqual(answer.end, { appStatus: more?.appStatus ?? 0, protocolStatus: 0 })
            const head = CgiResponse.makeHeadParser().push(new TextEncoder().encode(answer.stdout))
            assert.isTrue(head !== undefined && "status" in head)
          }))
      }

      // Closed without a word.
      for (
        const name of [
          "fcgiwrap-abort-before-params",
          "fcgiwrap-abort-idle-id",
          "fcgiwrap-authorizer",
          "fcgiwrap-getvalues",
          "fcgiwrap-no-stdin-eof",
          "fcgiwrap-unknown-role",
          "fcgiwrap-version-2",
          "libfcgi-authorizer",
          "libfcgi-getvalues",
          "libfcgi-unknown-app-type",
          "libfcgi-unknown-role",
          "php-fpm-abort-idle-id",
          "php-fpm-unknown-mgmt-type",
          "php-fpm-unknown-role"
        ]
      ) {
        it.effect(`${name}: the connection was lost before an answer`, () =>
          Effect.gen(function*() {
            const [{ end, stderr, stdout }] = yield* play(vector(name), cut, 1)
            assert.deepStrictEqual([stdout, stderr], ["", ""])
            assert.deepStrictEqual("reason" in end ? end.reason : end, { _tag: "ConnectionLost", received: 0 })
          }))
      }

      it.effect("php-fpm-mpx-two: the first request is answered, the second lost with the connection", () =>
        Effect.gen(function*() {
          const [first, second] = yield* play(vector("php-fpm-mpx-two"), cut, 2, [1, 2])
          assert.strictEqual(first.stdout, noBody)
          assert.strictEqual(reasonOf(second), "ConnectionLost")
        }))

      it.effect("php-fpm-keep-two-pipelined: one answer after the other", () =>
        Effect.gen(function*() {
          const app = yield* Application.make()
          const client = yield* FastCgiClient.make(app)
          const bytes = vector("php-fpm-keep-two-pipelined")
          for (const half of [bytes.subarray(0, 96), bytes.subarray(96)]) {
            const response = yield* client.request({ params })
            yield* app.sendBytes(...cut(half))
            assert.strictEqual((yield* read(response)).stdout, php("php GET 0\n"))
          }
        }))

      for (const peer of ["libfcgi", "fcgiwrap"]) {
        it.effect(`${peer}-mpx-two: the second request is refused, the first answered`, () =>
          Effect.gen(function*() {
            const [first, second] = yield* play(vector(`${peer}-mpx-two`), cut, 2, [1, 2])
            assert.match(first.stdout, /\r\n\r\n(cgi GET|pid=)/)
            assert.strictEqual(reasonOf(second), "CantMultiplex")
          }))

        it.effect(`${peer}-getvalues-then-request: the values come with the next request's answer`, () =>
          Effect.gen(function*() {
            const app = yield* Application.make()
            const client = yield* FastCgiClient.make(app)
            const values = yield* Effect.forkScoped(
              client.getValues(["FCGI_MAX_CONNS", "FCGI_MAX_REQS", "FCGI_MPXS_CONNS"])
            )
            yield* app.untilTag("GetValues")
            const response = yield* client.request({ params })
            yield* app.sendBytes(...cut(vector(`${peer}-getvalues-then-request`)))
            assert.deepStrictEqual(
              { ...(yield* Fiber.join(values)) },
              { FCGI_MAX_CONNS: "1", FCGI_MAX_REQS: "1", FCGI_MPXS_CONNS: "0" }
            )
            assert.match((yield* read(response)).stdout, /\r\n\r\n/)
          }))

        it.effect(`${peer}-unknown-mgmt-type: UNKNOWN_TYPE answers GET_VALUES`, () =>
          Effect.gen(function*() {
            const app = yield* Application.make()
            const client = yield* FastCgiClient.make(app)
            const values = yield* Effect.forkScoped(client.getValues(["X"]))
            yield* app.untilTag("GetValues")
            yield* app.sendBytes(...cut(vector(`${peer}-unknown-mgmt-type`)))
            assert.deepStrictEqual({ ...(yield* Fiber.join(values)) }, {})
          }))
      }

      it.effect("php-fpm-getvalues: only FCGI_MPXS_CONNS", () =>
        Effect.gen(function*() {
          const app = yield* Application.make()
          const client = yield* FastCgiClient.make(app)
          const values = yield* Effect.forkScoped(client.getValues(["FCGI_MAX_CONNS", "FCGI_MPXS_CONNS"]))
          yield* app.untilTag("GetValues")
          yield* app.sendBytes(...cut(vector("php-fpm-getvalues")))
          yield* app.close
          assert.deepStrictEqual({ ...(yield* Fiber.join(values)) }, { FCGI_MPXS_CONNS: "0" })
          yield* client.closed
        }))
    })
  }

  it.effect("id-65535: the last id there is", () =>
    Effect.gen(function*() {
      for (
        const [peer, stdout] of [
          ["php-fpm", php("php GET 0\n")],
          ["fcgiwrap", cgi("cgi GET 0\n")],
          ["libfcgi", /role=RESPONDER/]
        ] as const
      ) {
        const [answer] = yield* play(vector(`${peer}-id-65535`), (bytes) => [bytes], 65535)
        if (typeof stdout === "string") assert.strictEqual(answer.stdout, stdout)
        else assert.match(answer.stdout, stdout)
        assert.deepStrictEqual(answer.end, { appStatus: 0, protocolStatus: 0 })
      }
    }))

  it.effect("every recording, whatever it answers: an end or a typed error, and the connection is closed", () =>
    Effect.gen(function*() {
      const names = readdirSync(directory).filter((name) => name.endsWith(".out.bin"))
      assert.isAtLeast(names.length, 55)
      for (const name of names) {
        for (const [, cut] of fragmentations) {
          const app = yield* Application.make()
          const client = yield* FastCgiClient.make({ ...app, maxRequests: 7 })
          const responses = yield* Effect.forEach([1, 2, 3, 4, 5, 6, 7], () => client.request({ params }))
          yield* app.sendBytes(...cut(vector(name.slice(0, -".out.bin".length))))
          yield* app.close
          for (const response of responses) {
            const { end } = yield* read(response)
            assert.isTrue("appStatus" in end || end._tag === "FastCgiClientError", name)
          }
          yield* client.closed
        }
      }
    }))
})
