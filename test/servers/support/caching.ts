/**
 * An application behind a cache: the tests choose its answers, and it knows what it was asked.
 */
import { FastCgiLogger } from "effect-fastcgi/http"
import { NodeFastCgi } from "effect-fastcgi/node"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as HttpServer from "effect/http/HttpServer"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { projectRoot } from "../../support/files.ts"
import * as WebServers from "../../support/webServers.ts"
import * as Http from "./http.ts"

/** docs/caching.md. */
export const page = Fs.readFileSync(Path.join(projectRoot, "docs/caching.md"), "utf8")

type Request = HttpServerRequest.HttpServerRequest
type Answer = (request: Request, count: number) => Effect.Effect<HttpServerResponse.HttpServerResponse>

/** An application whose answers the tests choose, and which knows what it was asked. */
export class Application extends Context.Service<Application, {
  readonly port: number
  /** A path that no other test has, with its answer. */
  readonly page: (answer: Answer) => string
  /** The requests for the path so far, in order. */
  readonly asked: (path: string) => ReadonlyArray<Request>
}>()("test/servers/support/caching/Application") {
  static readonly layer = Layer.effect(
    Application,
    Effect.gen(function*() {
      const answers = new Map<string, Answer>()
      const requests = new Map<string, Array<Request>>()
      const port = yield* WebServers.freePort
      const app = Effect.gen(function*() {
        const request = yield* HttpServerRequest.HttpServerRequest
        const asked = requests.get(request.url)!
        asked.push(request)
        return yield* answers.get(request.url)!(request, asked.length)
      })
      yield* Layer.build(
        HttpServer.serve(app).pipe(
          Layer.provide(NodeFastCgi.layerServer({ port })),
          Layer.provide(FastCgiLogger.layer())
        )
      )
      return Application.of({
        port,
        page: (answer) => {
          const path = `/${answers.size}`
          answers.set(path, answer)
          requests.set(path, [])
          return path
        },
        asked: (path) => requests.get(path)!
      })
    })
  )
}

/** A web server with a cache, by the names of its configurations. */
export class Cache extends Context.Service<Cache, {
  readonly program: WebServers.Program
  readonly port: (configuration: string) => number
}>()("test/servers/support/caching/Cache") {}

/** A configuration of docs/caching.md under a name, changed. */
export type Configuration = readonly [
  name: string,
  title: string,
  changes?: ReadonlyArray<readonly [documented: string, changed: string]>
]

/** What a web server with a cache needs: where its configurations are filled in, and how it is started. */
export interface CacheOptions {
  /** The language of the blocks on the page. */
  readonly language: string
  readonly configurations: ReadonlyArray<Configuration>
  /** The places of one configuration, and its names, of which each has its own by `number`. */
  readonly places: (at: {
    readonly port: number
    readonly number: number
    readonly folder: string
    /** The application's address. */
    readonly application: string
  }) => ReadonlyArray<readonly [documented: string, place: string]>
  readonly start: (
    folder: string,
    sections: ReadonlyArray<string>,
    ports: ReadonlyArray<number>
  ) => Effect.Effect<WebServers.Program, WebServers.ProgramError, Scope.Scope>
}

/** One web server, with a port and a cache for each configuration. */
export const cacheLayer = ({ configurations, language, places, start }: CacheOptions) =>
  Layer.effect(
    Cache,
    Effect.gen(function*() {
      const application = yield* Application
      const folder = yield* WebServers.temporaryDirectory
      const ports = new Map<string, number>()
      const sections: Array<string> = []
      for (const [number, [name, title, changes = []]] of configurations.entries()) {
        const port = yield* WebServers.freePort
        ports.set(name, port)
        sections.push(
          WebServers.fill(WebServers.documented(page, language, title), [
            ...changes,
            ...places({ port, number, folder, application: `127.0.0.1:${application.port}` })
          ])
        )
      }
      const program = yield* start(folder, sections, [...ports.values()])
      return Cache.of({ program, port: (configuration) => ports.get(configuration)! })
    })
  ).pipe(Layer.provideMerge(Application.layer))

/** A page that says how often the application was asked for it, with these headers. */
export const counting =
  (headers: Readonly<Record<string, string>>, more: { readonly status?: number } = {}): Answer => (request, count) =>
    Effect.succeed(HttpServerResponse.text(`${request.method} ${count}`, { headers, ...more }))

export const forAMinute = { "cache-control": "max-age=60" }
export const forASecond = { "cache-control": "max-age=1" }

/** A response that could be kept, and whose body fails. */
export const breakingOff = () =>
  HttpServerResponse.stream(
    Stream.concat(Stream.make(new TextEncoder().encode("half")), Stream.fail(new Error("the body fails"))),
    { headers: forAMinute }
  )

/** What two clients see of a page, one after the other, and how often the application was asked. */
export const twice = Effect.fnUntraced(function*(
  configuration: string,
  answer: Answer,
  first: Http.RequestOptions = {},
  second: Http.RequestOptions = first
) {
  const application = yield* Application
  const port = (yield* Cache).port(configuration)
  const path = application.page(answer)
  const one = yield* Http.request(port, path, first)
  const two = yield* Http.request(port, path, second)
  return { one, two, path, asked: application.asked(path) }
})

/** Whether the second of two clients is answered by the cache. */
export const isKept = (
  configuration: string,
  answer: Answer,
  first?: Http.RequestOptions,
  second?: Http.RequestOptions
) => Effect.map(twice(configuration, answer, first, second), ({ asked }) => asked.length === 1)

/** Asks until the response is another one than so far: for what expires in the time of the web server. */
export const until = (port: number, path: string, what: string, found: (response: Http.Response) => boolean) =>
  WebServers.eventually(
    what,
    Effect.filterOrFail(Http.request(port, path), found, (response) => `still ${response.status} ${response.text}`)
  )
