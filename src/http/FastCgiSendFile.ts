/**
 * Lets the web server send the files that an app answers with. The app answers with a header that names the file, and the web
 * server, which can read the same file, sends it. Off unless this layer is provided.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as HttpEffect from "effect/http/HttpEffect"
import * as HttpPlatform from "effect/http/HttpPlatform"
import { HttpServerRequest } from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Path from "effect/Path"
import { ServerRequest } from "./internal/serverRequest.ts"

/**
 * A directory whose files the web server sends, and the `internal` location of nginx that serves them.
 *
 * @category options
 * @since 0.1.0
 */
export interface FastCgiSendFileRoot {
  /** The directory as the app names it, such as `/srv/files`. */
  readonly directory: string
  /** The location as nginx's configuration names it, such as `/protected`, whose `alias` or `root` is the directory. */
  readonly location: string
}

/**
 * The header that the web server understands, and the files that it may send.
 *
 * **Details**
 *
 * - `X-Accel-Redirect`: for nginx. Its value is a path below an `internal` location.
 * - `X-Sendfile`: for lighttpd (`"x-sendfile" => "enable"`) and Apache's mod_xsendfile. Its value is the path of the file.
 * - `X-LIGHTTPD-send-file`: lighttpd's name for it before 1.4, with `"allow-x-send-file" => "enable"`.
 *
 * @category options
 * @since 0.1.0
 */
export type FastCgiSendFileOptions =
  | {
    readonly header: "X-Accel-Redirect"
    readonly roots: ReadonlyArray<FastCgiSendFileRoot>
  }
  | {
    readonly header: "X-Sendfile" | "X-LIGHTTPD-send-file"
    /** Directories whose files the web server sends. The app and the web server must use the same paths. */
    readonly roots: ReadonlyArray<string>
  }

/**
 * Creates an `HttpPlatform` that leaves files below `roots` to the web server, and all other files to the `HttpPlatform` of the
 * context.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (
  options: FastCgiSendFileOptions
): Effect.Effect<HttpPlatform.HttpPlatform["Service"], never, HttpPlatform.HttpPlatform | Path.Path> =>
  Effect.gen(function*() {
    const platform = yield* HttpPlatform.HttpPlatform
    const path = yield* Path.Path
    const header = options.header.toLowerCase()
    const roots = rootsOf(options, path)
    return HttpPlatform.HttpPlatform.of({
      ...platform,
      fileResponse: (file, fileOptions) => {
        const response = platform.fileResponse(file, fileOptions)
        const whole = fileOptions === undefined ||
          (fileOptions.offset === undefined && fileOptions.bytesToRead === undefined &&
            (fileOptions.status ?? 200) === 200)
        if (!whole) return response
        const value = nameOf(roots, path.resolve(file))
        if (value === undefined) return response
        return Effect.withFiber((fiber) => {
          const request = Option.getOrUndefined(Context.getOption(fiber.context, HttpServerRequest))
          // Over another server nobody would look at the header, or everybody.
          if (!(request instanceof ServerRequest)) return response
          // The platform's own response knows whether there is such a file, its type, its date and its tag.
          return Effect.map(response, (response) => {
            HttpEffect.appendPreResponseHandlerUnsafe(fiber.context, withoutRanges(header, value))
            return named(response, header, value)
          })
        })
      }
    })
  })

/**
 * Replaces the `HttpPlatform` of the context by one that leaves files below `roots` to the web server.
 *
 * **Details**
 *
 * `HttpServerResponse.file` and `HttpStaticServer` use it, and handlers stay as they are. A whole file below one of the roots is
 * answered with the header and without a body. The web server adds the length and `Accept-Ranges`, and answers `Range` and
 * `If-None-Match`. The app still sends these itself:
 *
 * - files below none of the roots, after `.`, `..` and relative paths have been resolved;
 * - a part of a file (`offset`, `bytesToRead`), as `HttpStaticServer` answers a `Range`, and files with another status than 200;
 * - files whose names hold control characters;
 * - all files, when the request has not come over FastCGI. The same app thus runs on another `HttpServer`.
 *
 * A missing file fails as it does without this layer. Names are percent-encoded, so `%`, `?`, `#`, spaces and non-ASCII letters in
 * a name are safe.
 *
 * **Gotchas**
 *
 * A web server that is not configured for the header passes an empty response on, and with X-Sendfile also the path of the file.
 * nginx drops the app's `ETag` and `Last-Modified` and makes its own from the file. lighttpd keeps the app's. Both follow a symbolic
 * link below a root.
 *
 * **Example** (Files behind nginx)
 *
 * ```ts
 * import { FastCgiSendFile } from "effect-fastcgi/http"
 * import { NodeFastCgi } from "effect-fastcgi/node"
 * import * as HttpRouter from "effect/http/HttpRouter"
 * import * as HttpServerResponse from "effect/http/HttpServerResponse"
 * import * as Layer from "effect/Layer"
 *
 * const Routes = HttpRouter.add("GET", "/report", HttpServerResponse.file("/srv/files/report.pdf"))
 *
 * // In nginx's configuration: location /protected/ { internal; alias /srv/files/; }
 * const SendFile = FastCgiSendFile.layer({
 *   header: "X-Accel-Redirect",
 *   roots: [{ directory: "/srv/files", location: "/protected" }]
 * })
 *
 * export const Server = HttpRouter.serve(Routes).pipe(
 *   Layer.provide(SendFile.pipe(Layer.provideMerge(NodeFastCgi.layer({ path: "/run/app/app.sock" }))))
 * )
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (
  options: FastCgiSendFileOptions
): Layer.Layer<HttpPlatform.HttpPlatform, never, HttpPlatform.HttpPlatform | Path.Path> =>
  Layer.effect(HttpPlatform.HttpPlatform, make(options))

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

interface Root {
  /** Ends with the separator. */
  readonly directory: string
  /** The replacement of `directory`, percent-encoded, with a slash at its end. */
  readonly prefix: string
}

const rootsOf = (options: FastCgiSendFileOptions, path: Path.Path): ReadonlyArray<Root> => {
  const directoryOf = (directory: string) => withEnd(path.resolve(directory), path.sep)
  const roots = options.header === "X-Accel-Redirect"
    ? options.roots.map(({ directory, location }) => ({
      directory: directoryOf(directory),
      // One that begins otherwise is a named location for nginx, which has no path.
      prefix: encodePath(withEnd(location.startsWith("/") ? location : "/" + location, "/"))
    }))
    : options.roots.map((root) => {
      const directory = directoryOf(root)
      return { directory, prefix: encodePath(directory) }
    })
  // Of roots inside of each other the inner one counts.
  return roots.sort((a, b) => b.directory.length - a.directory.length)
}

const withEnd = (text: string, end: string): string => text.endsWith(end) ? text : text + end

// Of a control character lighttpd makes "_", so that it is another file; half of a character has no encoding.
// oxlint-disable-next-line no-control-regex -- control characters are the point
const unnameable = /[\x00-\x1f\x7f]|\p{Cs}/u

const nameOf = (roots: ReadonlyArray<Root>, file: string): string | undefined => {
  if (unnameable.test(file)) return undefined
  for (let i = 0; i < roots.length; i++) {
    const { directory, prefix } = roots[i]
    if (file.length > directory.length && file.startsWith(directory)) {
      return prefix + encodePath(file.substring(directory.length))
    }
  }
  return undefined
}

// nginx, lighttpd and mod_xsendfile decode the value.
const encodePath = (path: string): string => encodeURIComponent(path).replaceAll("%2F", "/")

// The sender of the file decides about `Accept-Ranges`. nginx would send it twice; `HttpStaticServer` adds it afterwards.
const withoutRanges = (header: string, value: string): HttpEffect.PreResponseHandler => (_, response) =>
  Exit.succeed(
    response.headers[header] === value ? HttpServerResponse.removeHeader(response, "accept-ranges") : response
  )

const named = (
  response: HttpServerResponse.HttpServerResponse,
  header: string,
  value: string
): HttpServerResponse.HttpServerResponse => {
  const { "content-length": _, ...headers } = response.headers
  return HttpServerResponse.empty({
    status: response.status,
    statusText: response.statusText,
    headers: { ...headers, [header]: value },
    cookies: response.cookies
  })
}
