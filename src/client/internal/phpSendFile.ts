/**
 * What a script asks its web server to send in its place: `X-Accel-Redirect` with a URL, as with nginx, or `X-Sendfile` with the path
 * of a file, as with lighttpd and Apache.
 */
import * as Effect from "effect/Effect"
import type { FileSystem } from "effect/FileSystem"
import type { HttpPlatform } from "effect/http/HttpPlatform"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Path from "effect/Path"
import type { PlatformError } from "effect/PlatformError"
import { resolve, toText } from "../../cgi/internal/phpPath.ts"
import type { Exchange } from "./exchange.ts"
import { toResponse } from "./gatewayResponse.ts"
import { type Directory, makeDirectory, pathBelow } from "./phpFiles.ts"

/** What is to be sent: the file at a URL, percent-encoded, or one at a path of the file system. */
export type Sent =
  | { readonly _tag: "Url"; readonly path: string; readonly query: string }
  | { readonly _tag: "File"; readonly path: string }

/** A file of a directory that only scripts may send. */
export interface Internal {
  readonly directory: Directory
  /** Its path below the directory. */
  readonly path: string
  /** Whether a script is shown as it is written: not where the directory belongs to the site, or the site to the directory. */
  readonly showsSource: boolean
}

/** What an answer asks for, if it does. The first of two lines counts, and `X-Accel-Redirect` before `X-Sendfile`. */
export const sentBy = (exchange: Exchange): Sent | undefined => {
  const value = (wanted: string) => exchange.headers.find(([name]) => name === wanted)?.[1]
  const url = value("x-accel-redirect")
  if (url !== undefined) {
    // A script may have left out to encode it.
    const encoded = url.replace(notInUrl, encode)
    const question = encoded.indexOf("?")
    return question === -1
      ? { _tag: "Url", path: encoded, query: "" }
      : { _tag: "Url", path: encoded.substring(0, question), query: encoded.substring(question + 1) }
  }
  const file = value("x-sendfile")
  // What is no text is the path of no file that could be sent.
  return file === undefined ? undefined : { _tag: "File", path: toText(file) ?? "" }
}

/** The directories that only scripts may send from, by the URLs that stand for them in `X-Accel-Redirect`. */
export const makeInternal = Effect.fnUntraced(function*(
  directories: Readonly<Record<string, string>>,
  site: Directory,
  options: { readonly followSymlinks: boolean; readonly extensions: ReadonlyArray<string> }
): Effect.fn.Return<
  (sent: Sent) => Internal | undefined,
  PlatformError,
  FileSystem | Path.Path | HttpPlatform
> {
  const path = yield* Path.Path
  const internals = yield* Effect.forEach(Object.entries(directories), ([url, root]) =>
    Effect.map(
      makeDirectory({ ...options, root, deny: [], noScripts: [] }),
      (directory) => ({
        url: url.replace(/\/$/, ""),
        directory,
        showsSource: pathBelow(path, site.realRoot, directory.realRoot + path.sep) === undefined &&
          pathBelow(path, directory.realRoot, site.realRoot + path.sep) === undefined
      })
    ))
  // What is further down comes first.
  internals.sort((a, b) => b.url.length - a.url.length)
  return (sent) => {
    const wanted = sent._tag === "File" ? path.resolve(sent.path) : resolve(sent.path)
    if (wanted === undefined || wanted.includes("\0")) return undefined
    for (const { directory, showsSource, url } of internals) {
      const at = sent._tag === "File"
        ? pathBelow(path, directory.root, wanted)
        : wanted.startsWith(url + "/")
        ? wanted.substring(url.length)
        : undefined
      if (at !== undefined) return { directory, path: at, showsSource }
    }
    return undefined
  }
})

/** A file as the answer of the script that has asked for it: with its headers, but those that are about its own body. */
export const withHeadersOf = (
  exchange: Exchange,
  response: HttpServerResponse.HttpServerResponse
): HttpServerResponse.HttpServerResponse => {
  const { cookies, headers } = toResponse({ ...exchange, contentLength: 0 })
  const kept = Object.entries(headers).filter(([name]) => !ofBody.has(name))
  return HttpServerResponse.mergeCookies(HttpServerResponse.setHeaders(response, kept), cookies)
}

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

const notInUrl = /[^\x21-\x7e]/g

// One character per byte.
const encode = (character: string): string => "%" + character.charCodeAt(0).toString(16).padStart(2, "0")

// Of the script's own body, or of an answer that is none yet.
const ofBody = new Set([
  "accept-ranges",
  "content-encoding",
  "content-length",
  "content-range",
  "etag",
  "last-modified",
  "x-sendfile"
])
