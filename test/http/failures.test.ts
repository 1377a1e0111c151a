/**
 * What is told of an HTTP app that fails: one line at ERROR with the cause, and one in the metric, whatever the middleware.
 */
import { assert, it } from "@effect/vitest"
import { FastCgiMetrics } from "effect-fastcgi"
import { FastCgiTest } from "effect-fastcgi/testing"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as HttpClient from "effect/http/HttpClient"
import * as HttpEffect from "effect/http/HttpEffect"
import * as HttpRouter from "effect/http/HttpRouter"
import { HttpServerError, RequestParseError } from "effect/http/HttpServerError"
import { HttpServerRequest } from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Metric from "effect/Metric"
import { CurrentLogAnnotations } from "effect/References"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { settle } from "../server/support/serving.ts"

const boom = Effect.die(new Error("boom"))

const fine = HttpServerResponse.text("fine")

const Routes = Layer.mergeAll(
  HttpRouter.add("GET", "/fine", fine),
  HttpRouter.add("GET", "/500", HttpServerResponse.empty({ status: 500 })),
  HttpRouter.add("GET", "/answer", Effect.die(HttpServerResponse.text("an answer", { status: 404 }))),
  HttpRouter.add(
    "GET",
    "/refusal",
    Effect.flatMap(
      HttpServerRequest,
      (request) => Effect.die(new HttpServerError({ reason: new RequestParseError({ request }) }))
    )
  ),
  HttpRouter.add("GET", "/die", boom),
  HttpRouter.add("GET", "/fail", Effect.orDie(Effect.fail(new Error("boom")))),
  HttpRouter.add("GET", "/throw", () => {
    throw new Error("boom")
  }),
  HttpRouter.add("GET", "/later", Effect.andThen(Effect.yieldNow, boom)),
  HttpRouter.add("GET", "/header", HttpServerResponse.empty({ headers: { "x-boom": "a\r\nx-b: c" } })),
  HttpRouter.add("GET", "/before", Effect.as(HttpEffect.appendPreResponseHandler(() => boom), fine)),
  HttpRouter.add("GET", "/finalizer", Effect.as(Effect.addFinalizer(() => boom), fine)),
  // After its head has arrived: a GET that got nothing is sent once more.
  HttpRouter.add(
    "GET",
    "/break",
    HttpServerResponse.stream(
      Stream.concat(
        Stream.make(new Uint8Array(9)),
        Stream.fromEffect(Effect.andThen(Effect.repeat(Effect.yieldNow, { times: 50 }), Effect.fail(new Error("boom"))))
      )
    )
  )
)

interface Line {
  readonly text: string
  readonly annotations: Readonly<Record<string, unknown>>
}

// What is logged at ERROR. HttpMiddleware.logger logs every request at INFO.
const errors = (lines: Array<Line>) =>
  Logger.layer([
    Logger.make<unknown, void>(({ cause, fiber, logLevel, message }) => {
      if (logLevel !== "Error" && logLevel !== "Fatal") return
      lines.push({
        text: `${String(message)} ${Cause.pretty(cause)}`,
        annotations: fiber.getRef(CurrentLogAnnotations)
      })
    })
  ])

interface ServeOptions {
  readonly disableLogger?: boolean
  readonly middleware?: (
    app: Effect.Effect<HttpServerResponse.HttpServerResponse, HttpServerError, HttpServerRequest | Scope.Scope>
  ) => Effect.Effect<HttpServerResponse.HttpServerResponse, HttpServerError, HttpServerRequest | Scope.Scope>
}

// Sends the requests, and takes what has been counted and logged of each.
const told = (options: ServeOptions, urls: ReadonlyArray<string>) => {
  const lines: Array<Line> = []
  return Effect.gen(function*() {
    const told: Array<readonly [url: string, status: number, failed: number, lines: ReadonlyArray<Line>]> = []
    for (const url of urls) {
      const before = (yield* Metric.value(FastCgiMetrics.requestsFailed)).count
      const status = yield* HttpClient.get(url).pipe(
        Effect.flatMap((response) => Effect.as(response.text, response.status)),
        Effect.orElseSucceed(() => 0)
      )
      yield* settle
      told.push([url, status, (yield* Metric.value(FastCgiMetrics.requestsFailed)).count - before, lines.splice(0)])
    }
    return told
  }).pipe(
    Effect.provide(HttpRouter.serve(Routes, options).pipe(Layer.provideMerge(FastCgiTest.layerTest))),
    Effect.provide(errors(lines))
  )
}

const answers = [["/fine", 200], ["/500", 500], ["/answer", 404], ["/refusal", 400], ["/missing", 404]] as const

const failures = [
  ["/die", 500],
  ["/fail", 500],
  ["/throw", 500],
  ["/later", 500],
  ["/header", 500],
  ["/finalizer", 200],
  // The head has been sent, and the rest never comes.
  ["/break", 0]
] as const

const middlewares: ReadonlyArray<readonly [name: string, options: ServeOptions]> = [
  ["without middleware", { disableLogger: true }],
  ["with Effect's logger", {}],
  ["with a middleware that leaves all as it is", { disableLogger: true, middleware: (app) => app }],
  ["with a middleware that catches everything", {
    disableLogger: true,
    middleware: (app) => Effect.catchCause(app, () => Effect.succeed(HttpServerResponse.text("sorry")))
  }],
  ["with a middleware that fails with something else", {
    disableLogger: true,
    middleware: (app) => Effect.catchCause(app, () => Effect.die("hidden"))
  }]
]

for (const [name, options] of middlewares) {
  it.effect(`a failure is logged once, as an error with its cause, and counted once: ${name}`, () =>
    Effect.gen(function*() {
      for (const [i, [url, status, failed, lines]] of (yield* told(options, failures.map(([url]) => url))).entries()) {
        assert.deepStrictEqual([url, status, failed, lines.length], [...failures[i]!, 1, 1])
        assert.include(lines[0]!.text, "boom", url)
        assert.strictEqual(lines[0]!.annotations["http.method"], "GET")
        assert.strictEqual(lines[0]!.annotations["http.url"], url)
      }
    }))

  it.effect(`an answer is no failure, whatever its status: ${name}`, () =>
    Effect.gen(function*() {
      for (const [i, [url, status, failed, lines]] of (yield* told(options, answers.map(([url]) => url))).entries()) {
        assert.deepStrictEqual([url, status, failed, lines.length], [...answers[i]!, 0, 0])
      }
    }))
}

const broken: ReadonlyArray<readonly [name: string, status: number, NonNullable<ServeOptions["middleware"]>]> = [
  ["fails", 500, () => boom],
  ["throws", 500, () => {
    throw new Error("boom")
  }],
  ["fails when the app has answered", 200, (app) => Effect.andThen(app, boom)]
]

for (const [name, status, middleware] of broken) {
  it.effect(`a middleware that ${name} is a failure as well`, () =>
    Effect.gen(function*() {
      const [[, answered, failed, lines]] = yield* told({ disableLogger: true, middleware }, ["/fine"])
      assert.deepStrictEqual([answered, failed, lines.length], [status, 1, 1])
      assert.include(lines[0]!.text, "boom")
    }))
}

it.effect("what fails before anything has been sent is a failure, unless a middleware answers for it", () =>
  Effect.gen(function*() {
    for (const [name, options] of middlewares) {
      const [[, status, failed, lines]] = yield* told(options, ["/before"])
      const expected = name.endsWith("everything") ? [200, 0, 0] : [500, 1, 1]
      assert.deepStrictEqual([status, failed, lines.length], expected, name)
    }
  }))

it.effect("the log has no query, which may hold a secret", () =>
  Effect.gen(function*() {
    const [[, , , lines]] = yield* told({ disableLogger: true }, ["/die?token=hidden"])
    assert.strictEqual(lines[0]!.annotations["http.url"], "/die")
    assert.notInclude(lines[0]!.text, "hidden")
  }))
