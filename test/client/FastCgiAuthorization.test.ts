import { assert, describe, it } from "@effect/vitest"
import { FastCgiAdmission, FastCgiRecord as Record, FastCgiResponse, FastCgiServer } from "effect-fastcgi"
import { FastCgiAuthorization, FastCgiClient } from "effect-fastcgi/client"
import { FastCgiTest } from "effect-fastcgi/testing"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Application from "./application.ts"
import { bytesOf, reasonOf, textOfStream } from "./application.ts"

const params = [["REQUEST_METHOD", "GET"], ["REQUEST_URI", "/"]] as const

/** What becomes of an answer, in as many records as there are texts. */
const decide = (stdout: ReadonlyArray<string>, end: Record.FastCgiRecord = Record.endRequest(1)) =>
  Effect.gen(function*() {
    const app = yield* Application.make()
    const client = yield* FastCgiClient.make(app)
    const deciding = yield* Effect.forkScoped(FastCgiAuthorization.authorize(client, { params }), {
      startImmediately: true
    })
    yield* app.untilTag("Params", 2)
    yield* app.send(...stdout.map((text) => Record.stdout(1, bytesOf(text))), Record.stdout(1), end)
    return yield* Fiber.join(deciding)
  })

describe("FastCgiAuthorization", () => {
  it.effect("allows with a 200, and keeps the names of variables as they are", () =>
    Effect.gen(function*() {
      const allowed = yield* decide([
        "Status: 200 OK\r\nVariable-AUTH_METHOD: token\r\nvariable-REMOTE_USER: ann\r\nVariable-A-b: \r\n\r\n"
      ])
      assert.deepStrictEqual(allowed, {
        _tag: "FastCgiAllowed",
        variables: [["AUTH_METHOD", "token"], ["REMOTE_USER", "ann"], ["A-b", ""]]
      })
    }))

  it.effect("ignores the other headers and the body of a 200", () =>
    Effect.gen(function*() {
      const allowed = yield* decide([
        "Status: 200\r\nX-Header: 1\r\nSet-Cookie: a=b\r\nVariable-A: b\r\n",
        "\r\nbody",
        "more"
      ])
      assert.deepStrictEqual(allowed, { _tag: "FastCgiAllowed", variables: [["A", "b"]] })
    }))

  for (const status of [201, 204, 302, 401, 403, 500]) {
    it.effect(`denies with the whole response of a ${status}`, () =>
      Effect.gen(function*() {
        const denied = yield* decide([
          `Status: ${status} Because\r\nWWW-Authenticate: Basic\r\nConnection: close\r\nVariable-A: b\r\n\r\nlog `,
          "in"
        ])
        assert.ok(denied._tag === "FastCgiDenied")
        assert.strictEqual(denied.status, status)
        assert.strictEqual(denied.statusText, "Because")
        assert.deepStrictEqual(denied.headers, [["WWW-Authenticate", "Basic"], ["Variable-A", "b"]])
        assert.strictEqual(yield* textOfStream(denied.body), "log in")
      }))
  }

  // lighttpd or Apache grant access on each of these.
  for (
    const [name, stdout, end, reason] of [
      ["nothing", [], Record.endRequest(1), "BadHead"],
      ["nothing, with an appStatus", [], Record.endRequest(1, 1), "BadHead"],
      ["an empty header block", ["\r\n"], Record.endRequest(1), "BadHead"],
      ["a body that looks like a status", ["\r\nStatus: 200 OK\r\n\r\n"], Record.endRequest(1), "BadHead"],
      ["no Status", ["Content-Type: text/plain\r\n\r\nfine"], Record.endRequest(1), "BadHead"],
      ["a header block that is cut", ["Status: 200 OK\r\nVar"], Record.endRequest(1), "BadHead"],
      ["OVERLOADED", [], Record.endRequest(1, 0, Record.ProtocolStatus.Overloaded), "Overloaded"],
      [
        "OVERLOADED behind a 200",
        ["Status: 200 OK\r\n\r\n"],
        Record.endRequest(1, 0, Record.ProtocolStatus.Overloaded),
        "ProtocolError"
      ],
      ["UNKNOWN_ROLE", [], Record.endRequest(1, 0, Record.ProtocolStatus.UnknownRole), "UnknownRole"]
    ] as const
  ) {
    it.effect(`is a failure, and no leave, when the answer is ${name}`, () =>
      Effect.gen(function*() {
        assert.strictEqual(reasonOf(yield* Effect.exit(decide(stdout, end))), reason)
      }))
  }

  it.effect("is a failure when the connection closes behind the head of a 200", () =>
    Effect.gen(function*() {
      const app = yield* Application.make()
      const client = yield* FastCgiClient.make(app)
      const deciding = yield* Effect.forkScoped(FastCgiAuthorization.authorize(client, { params }), {
        startImmediately: true
      })
      yield* app.untilTag("Params", 2)
      yield* app.send(Record.stdout(1, bytesOf("Status: 200 OK\r\n\r\n")))
      yield* app.close
      assert.strictEqual(reasonOf(yield* Effect.exit(Fiber.join(deciding))), "Truncated")
    }))

  it.effect("asks as the role Authorizer, without STDIN and without the variables that it does not get", () =>
    Effect.gen(function*() {
      const app = yield* Application.make()
      const client = yield* FastCgiClient.make(app)
      yield* Effect.forkScoped(
        FastCgiAuthorization.authorize(client, {
          params: [
            ...params,
            ["CONTENT_LENGTH", "10"],
            ["PATH_INFO", "/x"],
            [bytesOf("SCRIPT_NAME"), "/y"],
            ["PATH_TRANSLATED", "/z"],
            ["CONTENT_TYPE", "text/plain"]
          ]
        }),
        { startImmediately: true }
      )
      yield* app.untilTag("Params", 2)
      const begin = app.received[0]
      assert.ok(begin._tag === "BeginRequest")
      assert.strictEqual(begin.role, Record.Role.Authorizer)
      assert.deepStrictEqual(
        Array.from(app.params(1), ([name]) => name),
        ["REQUEST_METHOD", "REQUEST_URI", "CONTENT_TYPE"]
      )
      assert.notInclude(app.received.map(({ _tag }) => _tag), "Stdin")
    }))

  it.effect("understands this package's own server", () =>
    Effect.gen(function*() {
      const { connect } = yield* FastCgiTest.FastCgiMemory
      const client = yield* FastCgiClient.make({ connect })
      const ask = (uri: string) =>
        Effect.gen(function*() {
          const decision = yield* FastCgiAuthorization.authorize(client, { params: [["REQUEST_URI", uri]] })
          if (decision._tag === "FastCgiAllowed") return decision.variables
          return `${decision.status} ${yield* textOfStream(decision.body)}`
        }).pipe(Effect.scoped)
      assert.deepStrictEqual(yield* ask("/open"), [["REMOTE_USER", "ann"]])
      assert.strictEqual(yield* ask("/closed"), "403 403 Forbidden\n")
      assert.strictEqual(yield* ask("/broken"), "500 500 Internal Server Error\n")
    }).pipe(Effect.provide(
      FastCgiServer.serve({
        authorizer: (request) => {
          switch (request.params.get("REQUEST_URI")) {
            case "/open":
              return Effect.succeed(FastCgiResponse.allow({ REMOTE_USER: "ann" }))
            case "/closed":
              return Effect.succeed(FastCgiResponse.deny())
            default:
              return Effect.succeed(FastCgiResponse.allow({ "not a name": "" }))
          }
        }
      }).pipe(Layer.provideMerge([FastCgiTest.layerMemory, FastCgiAdmission.layer()]))
    )))
})
