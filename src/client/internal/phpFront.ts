/**
 * A PHP site over HTTP: each request runs a script, shows a file, or gets a page that says no more than its status.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { FileSystem } from "effect/FileSystem"
import type { HttpPlatform } from "effect/http/HttpPlatform"
import type { HttpServerError } from "effect/http/HttpServerError"
import type * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import type { Path } from "effect/Path"
import type { PlatformError } from "effect/PlatformError"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { type Plan, plan, type Rules, type Script, toUrl } from "../../cgi/internal/phpPath.ts"
import type { FastCgiClientError } from "../FastCgiClientError.ts"
import { type RequestRefused, visitorErrorPage, visitorPage } from "./errorPage.ts"
import type { Exchange } from "./exchange.ts"
import type { Forward } from "./forward.ts"
import { respondWith, toResponse, withoutAnswer } from "./gatewayResponse.ts"
import { printable, requestLine } from "./log.ts"
import { type Directory, type Found, makeDirectory } from "./phpFiles.ts"
import { makeInternal, type Sent, sentBy, withHeadersOf } from "./phpSendFile.ts"

/** A site. */
export interface SiteOptions extends Rules {
  readonly root: string
  /** What the application is told that `root` is. */
  readonly documentRoot: string | undefined
  readonly followSymlinks: boolean
  /** What files are shown with; `undefined` where none are. */
  readonly files: {
    readonly mimeTypes?: Readonly<Record<string, string>> | undefined
    readonly cacheControl?: string | undefined
  } | undefined
  readonly internal: Readonly<Record<string, string>>
  readonly params: Readonly<Record<string, string | Uint8Array>> | undefined
}

type Request = HttpServerRequest.HttpServerRequest
type Response = HttpServerResponse.HttpServerResponse
type Answer = Effect.Effect<
  Response,
  FastCgiClientError | HttpServerError | PlatformError | RequestRefused,
  Scope.Scope
>

/** What is being answered. */
interface Asked {
  readonly request: Request
  /** The target as the client has sent it: path and query. */
  readonly target: string
  /** The query, with its "?". Another one than that of `target` once a script has said so. */
  readonly query: string
  /** How many scripts have asked for another answer, and the answer of the last of them. */
  readonly redirects: number
  readonly redirectedBy: Exchange | undefined
}

/** Answers requests for a site, whose directory has to be there now. */
export const makeSite = Effect.fnUntraced(function*(options: SiteOptions, forward: Forward): Effect.fn.Return<
  (request: Request) => Effect.Effect<Response, HttpServerError, Scope.Scope>,
  PlatformError,
  FileSystem | Path | HttpPlatform
> {
  const site = yield* makeDirectory({ ...options, ...options.files })
  const internalOf = yield* makeInternal(options.internal, site, options)
  const { params, prefix } = options
  const documentRoot = options.documentRoot ?? site.root
  const showsFiles = options.files !== undefined

  const answer = (asked: Asked, to: Plan): Answer => {
    switch (to._tag) {
      case "Invalid":
        return page(400)
      case "Refused":
        return page(404)
      case "Prefix":
        return Effect.succeed(redirect(asked, toUrl("/", prefix)))
      case "Script":
        return runIfThere(asked, to)
      case "Missing":
        return otherwise(asked, to.otherwise)
      case "Path":
        return look(to.path, (found): Answer => {
          if (found._tag === "Directory") return Effect.succeed(redirect(asked, toUrl(to.path + "/", prefix)))
          if (found._tag === "Nothing" || !showsFiles) return otherwise(asked, to.otherwise)
          return found.isSource ? page(404) : show(site, asked, to.path)
        })
      case "Directory":
        return look(
          to.path,
          (found) => found._tag === "Directory" ? firstOf(asked, to.index) : otherwise(asked, to.otherwise)
        )
    }
  }

  // What is not for visitors is not there for them.
  const look = (path: string, use: (found: Exclude<Found, { readonly _tag: "Refused" }>) => Answer): Answer =>
    Effect.flatMap(site.find(path), (found) => found._tag === "Refused" ? page(404) : use(found))

  const firstOf = (asked: Asked, index: Extract<Plan, { readonly _tag: "Directory" }>["index"], at = 0): Answer => {
    if (at === index.length) return page(404)
    const file = index[at]
    return look(file.path, (found): Answer => {
      if (found._tag !== "File" || (file._tag === "File" && !showsFiles)) return firstOf(asked, index, at + 1)
      if (file._tag === "Script") return found.mayRun ? run(asked, file) : page(404)
      return found.isSource ? page(404) : show(site, asked, file.path)
    })
  }

  const otherwise = (asked: Asked, script: Script | undefined): Answer =>
    script === undefined ? page(404) : runIfThere(asked, script)

  const runIfThere = (asked: Asked, script: Script): Answer =>
    look(script.path, (found) => found._tag === "File" && found.mayRun ? run(asked, script) : page(404))

  const run = (asked: Asked, { path, pathInfo }: Script): Answer =>
    Effect.flatMap(Effect.scope, (scope) =>
      Effect.flatMap(Scope.fork(scope), (script) => {
        const redirected = asked.redirects > 0
        const forwarded = forward(asked.request, {
          url: asked.target,
          documentRoot,
          scriptFilename: documentRoot + path,
          scriptName: prefix + path,
          pathInfo: "",
          extra: {
            ...(pathInfo.length === 0 ? undefined : { PATH_INFO: pathInfo }),
            ...(redirected ? { QUERY_STRING: asked.query.substring(1) } : undefined),
            ...params
          },
          redirected
        })
        return Effect.flatMap(Scope.provide(forwarded, script), (answered) => {
          const exchange = withCookies(asked, answered)
          const sent = sentBy(exchange)
          return sent === undefined
            ? Effect.succeed(toResponse(exchange))
            : Effect.andThen(Effect.forkIn(leave(exchange, script), scope), send(asked, exchange, sent))
        })
      }))

  const send = (asked: Asked, exchange: Exchange, sent: Sent): Answer => {
    const notSent = (why: string): Answer =>
      Effect.andThen(
        Effect.logWarning(`${lineOf(asked)}: 404: the script has asked for ${printable(sent.path)}, ${why}`),
        page(404)
      )
    const internal = internalOf(sent)
    if (internal !== undefined) {
      const { directory, path, showsSource } = internal
      return Effect.flatMap(directory.find(path), (found): Answer =>
        found._tag !== "File"
          ? notSent("where there is no file")
          : found.isSource && !showsSource
          ? notSent("which is a script of the site")
          : show(directory, { ...asked, redirectedBy: exchange, redirects: asked.redirects + 1 }, path))
    }
    if (sent._tag === "File") return notSent("which is in none of the directories of `internal`")
    if (asked.redirects === maxRedirects) return notSent(`after ${maxRedirects} others`)
    const query = sent.query === "" ? "" : "?" + sent.query
    return answer(
      { ...asked, query, redirects: asked.redirects + 1, redirectedBy: exchange },
      plan(sent.path, options)
    )
  }

  return (request) => {
    const target = toTarget(request.originalUrl)
    const end = target.search(pathEnd)
    const asked: Asked = {
      request: request.url === target ? request : request.modify({ url: target }),
      target,
      query: end === -1 || target[end] === "#" ? "" : target.substring(end),
      redirects: 0,
      redirectedBy: undefined
    }
    return (request.method === "TRACE" || request.method === "CONNECT"
      ? page(405)
      : answer(asked, plan(end === -1 ? target : target.substring(0, end), options))).pipe(
        Effect.catch((error) => {
          if (error._tag === "HttpServerError" && error.reason._tag === "RouteNotFound") return page(404)
          if (error._tag !== "PlatformError") return withoutAnswer(asked.request, error, visitorErrorPage)
          const status = error.reason._tag === "PermissionDenied" ? 404 : 500
          return Effect.andThen(
            Effect.logError(`${lineOf(asked)}: ${status}: ${printable(error.message)}`),
            page(status)
          )
        }),
        // A client that goes away interrupts, which HttpServer.serve does not let through by itself.
        Effect.interruptible
      )
  }
})

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

// As nginx does it.
const maxRedirects = 10

// What is read of the body of a script that has something else sent in its place. Beyond, its request is given up.
const maxLeftBody = 64 * 1024

const pathEnd = /[?#]/

const schemeAndHost = /^https?:\/\/[^/?#]*/i

// A web request has a URL, and so may a request line (RFC 9112 §3.2.2).
const toTarget = (url: string): string => {
  const target = url.replace(schemeAndHost, "")
  return target.startsWith("?") || target === "" ? "/" + target : target
}

const lineOf = ({ request, target }: Asked): string => requestLine(request.method, target)

const page = (status: Parameters<typeof visitorPage>[0]): Effect.Effect<Response> =>
  Effect.succeed(respondWith(visitorPage(status)))

const mayShow = new Set(["GET", "HEAD"])

const show = (directory: Directory, asked: Asked, path: string): Answer => {
  const { redirectedBy, request } = asked
  if (redirectedBy !== undefined) {
    return Effect.map(directory.show(request, path), (response) => withHeadersOf(redirectedBy, response))
  }
  return mayShow.has(request.method)
    ? directory.show(request, path)
    : Effect.map(page(405), HttpServerResponse.setHeader("allow", "GET, HEAD"))
}

const withCookies = ({ redirectedBy }: Asked, exchange: Exchange): Exchange => {
  const cookies = redirectedBy?.headers.filter(([name]) => name === "set-cookie") ?? []
  return cookies.length === 0 ? exchange : { ...exchange, headers: [...cookies, ...exchange.headers] }
}

// A form is sent again as it is. Browsers make a GET of a POST at 301.
const redirect = (asked: Asked, url: string): Response =>
  asked.redirects > 0
    ? respondWith(visitorPage(404))
    : HttpServerResponse.redirect(url + asked.query, { status: mayShow.has(asked.request.method) ? 301 : 308 })

// Reads what is left of an answer, so that its connection can be kept.
const leave = ({ pull }: Exchange, scope: Scope.Closeable): Effect.Effect<void> => {
  let left = maxLeftBody
  return Stream.runForEachWhile(Stream.fromPull(Effect.succeed(pull)), (chunk) => {
    left -= chunk.length
    return Effect.succeed(left >= 0)
  }).pipe(Effect.ignoreCause, Effect.ensuring(Scope.close(scope, Exit.void)))
}
