import { assert, describe, it } from "@effect/vitest"
import { FastCgiAdmission, FastCgiRecord as Record, FastCgiResponse, FastCgiServer } from "effect-fastcgi"
import { FastCgiAuthorization, FastCgiClient } from "effect-fastcgi/client"
import { FastCgiTest } from "effect-fastcgi/testing"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import { within } from "../support/within.ts"
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

  it.effect("is decided by the head behind the interim ones", () =>
    Effect.gen(function*() {
      const interim = "Status: 103 Early\r\nVariable-REMOTE_USER: root\r\n\r\n"
      assert.deepStrictEqual(
        yield* decide([interim, "Status: 200 OK\r\nVariable-REMOTE_USER: ann\r\n\r\n"]),
        { _tag: "FastCgiAllowed", variables: [["REMOTE_USER", "ann"]] }
      )
      const denied = yield* decide([interim, "Status: 403 No\r\n\r\n"])
      assert.strictEqual(denied._tag === "FastCgiDenied" && denied.status, 403)
    }))

  it.effect("allows with a body that is longer than what a client keeps unread", () =>
    Effect.gen(function*() {
      const body = "b".repeat(60_000)
      const deciding = decide(["Status: 200 OK\r\nVariable-A: b\r\n\r\n", ...Array.from({ length: 20 }, () => body)])
      assert.deepStrictEqual(
        yield* within(() => "the decision of an Authorizer that sends 1.2 MB behind its head")(deciding),
        { _tag: "FastCgiAllowed", variables: [["A", "b"]] }
      )
    }))

  it.effect("takes no close for an end, whatever is passed as the request", () =>
    Effect.gen(function*() {
      const app = yield* Application.make()
      const client = yield* FastCgiClient.make(app)
      const request: FastCgiClient.FastCgiClientRequest = { params, endAtClose: true }
      const deciding = yield* Effect.forkScoped(FastCgiAuthorization.authorize(client, request), {
        startImmediately: true
      })
      yield* app.untilTag("Params", 2)
      yield* app.send(Record.stdout(1, bytesOf("Status: 200 OK\r\n\r\n")))
      yield* app.close
      assert.strictEqual(reasonOf(yield* Effect.exit(Fiber.join(deciding))), "Truncated")
    }))

  // lighttpd or Apache grant access on many of these.
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
      ["an interim head and nothing else", ["Status: 103 Early\r\n\r\n"], Record.endRequest(1), "BadHead"],
      [
        "an interim head and variables without Status",
        ["Status: 103 Early\r\n\r\nVariable-REMOTE_USER: root\r\n\r\n"],
        Record.endRequest(1),
        "BadHead"
      ],
      [
        "an interim 100 and an empty head",
        ["HTTP/1.1 100 Continue\r\nStatus: 100\r\n\r\n\r\n"],
        Record.endRequest(1),
        "BadHead"
      ],
      ["an HTTP status line", ["HTTP/1.1 200 OK\r\n\r\n"], Record.endRequest(1), "BadHead"],
      [
        "an HTTP status line and another Status",
        ["HTTP/1.1 200 OK\r\nStatus: 403\r\n\r\n"],
        Record.endRequest(1),
        "BadHead"
      ],
      ["two Status that differ", ["Status: 200\r\nStatus: 403\r\n\r\n"], Record.endRequest(1), "BadHead"],
      ["two Status that do not", ["Status: 200\r\nX: a\r\nstatus: 200\r\n\r\n"], Record.endRequest(1), "BadHead"],
      ["a Status in a folded line", ["X: a\r\n Status: 200\r\n\r\n"], Record.endRequest(1), "BadHead"],
      ["a Status in a folded first line", [" Status: 200\r\n\r\n"], Record.endRequest(1), "BadHead"],
      ["a Status behind junk", ["warning\nStatus: 200\r\n\r\n"], Record.endRequest(1), "BadHead"],
      ["a Status behind NUL", ["\0Status: 200\r\n\r\n"], Record.endRequest(1), "BadHead"],
      ["another name", ["X-Status: 200\r\n\r\n"], Record.endRequest(1), "BadHead"],
      ["Status 2000", ["Status: 2000\r\n\r\n"], Record.endRequest(1), "BadHead"],
      ["Status 200abc", ["Status: 200abc\r\n\r\n"], Record.endRequest(1), "BadHead"],
      ["Status +200", ["Status: +200\r\n\r\n"], Record.endRequest(1), "BadHead"],
      ["Status 2e2", ["Status: 2e2\r\n\r\n"], Record.endRequest(1), "BadHead"],
      ["no number", ["Status: OK\r\n\r\n"], Record.endRequest(1), "BadHead"],
      ["Status 101", ["Status: 101\r\n\r\n"], Record.endRequest(1), "BadHead"],
      ["a 200 with an appStatus", ["Status: 200 OK\r\n\r\n"], Record.endRequest(1, 1), "BadHead"],
      [
        "UNKNOWN_ROLE behind a 200",
        ["Status: 200 OK\r\n\r\n"],
        Record.endRequest(1, 0, Record.ProtocolStatus.UnknownRole),
        "ProtocolError"
      ],
      [
        "a protocol status that is none, behind a 200",
        ["Status: 200\r\n\r\n"],
        Record.endRequest(1, 0, 77),
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
