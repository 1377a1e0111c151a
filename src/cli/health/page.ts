/**
 * A page that an application has for whoever runs it: a ping, a status.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { CgiHead } from "../../cgi/CgiResponse.ts"
import { Role } from "../../protocol/FastCgiRecord.ts"
import { type CommandFailure, ExitCode, fail } from "../internal/failure.ts"
import type { Target } from "../internal/target.ts"
import { exchange } from "../request/answer.ts"

/** A page that came. */
export interface Page {
  readonly status: number
  readonly statusText: string
  /** The page, or its first `maxSize` bytes. */
  readonly text: string
  /** Until the answer was complete. */
  readonly milliseconds: number
}

/** The page to request. */
export interface PageOptions {
  readonly path: string
  readonly query?: string
  readonly timeout: Duration.Duration
  /** How many bytes are kept of the page. */
  readonly maxSize: number
}

/** Asks for the page, on a connection of its own. */
export const getPage = (
  target: Target,
  { maxSize, path, query = "", timeout }: PageOptions
): Effect.Effect<Page, CommandFailure> =>
  Effect.suspend(() => {
    const chunks: Array<Uint8Array> = []
    let size = 0
    let found: CgiHead | undefined
    return exchange(target, {
      method: "GET",
      request: {
        role: Role.Responder,
        // php-fpm knows its pages by SCRIPT_NAME, and looks at no request without SCRIPT_FILENAME.
        params: [
          ["REQUEST_METHOD", "GET"],
          ["SCRIPT_FILENAME", path],
          ["SCRIPT_NAME", path],
          ["REQUEST_URI", query === "" ? path : `${path}?${query}`],
          ["QUERY_STRING", query],
          ["SERVER_PROTOCOL", "HTTP/1.1"],
          ["GATEWAY_INTERFACE", "CGI/1.1"],
          ["SERVER_NAME", "localhost"],
          ["SERVER_PORT", "80"],
          ["HTTP_HOST", "localhost"],
          ["HTTP_USER_AGENT", "effect-fastcgi"],
          // `FastCgiStatus` shows its pages to this host.
          ["REMOTE_ADDR", "127.0.0.1"]
        ]
      }
    }, {
      onHead: (head) =>
        Effect.sync(() => {
          found = head
          return true
        }),
      onBody: (bytes) =>
        Effect.sync(() => {
          if (size < maxSize) chunks.push(bytes.slice(0, maxSize - size))
          size += bytes.length
        }),
      onStderr: () => Effect.void
    }).pipe(
      Effect.scoped,
      Effect.map(({ ended }): Page => {
        const { status, statusText } = found!
        return { status, statusText, text: Buffer.concat(chunks).toString("utf8"), milliseconds: ended }
      }),
      Effect.timeoutOrElse({
        duration: timeout,
        orElse: () =>
          fail(
            ExitCode.Timeout,
            `${target.name} did not answer ${path} within ${
              Duration.format(timeout)
            }: it hangs, or all of its workers ` +
              "are busy."
          )
      })
    )
  })
